// The hub as phoenix.js, unmodified from npm, meets it. A Go test (../peer/js_test.go) starts the
// server and names it in HUB_URL; HUB_CONTROL is where to ask for a restart and the like.
import assert from "node:assert/strict"
import {test} from "node:test"
import {Presence, Socket} from "phoenix"
import WebSocket from "ws"

const url = process.env.HUB_URL
const control = process.env.HUB_CONTROL
if(!url || !control){ throw new Error("run `go test ./hub/hubtest/peer`, which starts the server") }

const ask = async (path) => {
  const res = await fetch(control + path)
  assert.equal(res.status, 200)
}

const within = (ms, what, promise) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`${what}: nothing for ${ms} ms`)), ms)
  promise.then(v => { clearTimeout(timer); resolve(v) }, e => { clearTimeout(timer); reject(e) })
})

// connect returns an open socket, closed at the end of the test.
const connect = async (t, {path = "/socket", params = {}, ...opts} = {}) => {
  const socket = new Socket(url + path, {
    transport: WebSocket, params: {token: "valid", ...params}, reconnectAfterMs: () => 50, rejoinAfterMs: () => 50, ...opts,
  })
  if(opts.transport === "longpoll"){ socket.transport = socket.getLongPollTransport() }
  t.after(() => new Promise(resolve => { socket.disconnect(resolve); setTimeout(resolve, 500) }))
  const opened = new Promise(resolve => socket.onOpen(resolve))
  socket.connect()
  await within(5000, "open", opened)
  return socket
}

const reply = (push) => within(5000, "reply", new Promise((resolve, reject) => {
  push.receive("ok", r => resolve({ok: r})).receive("error", r => resolve({error: r})).receive("timeout", () => reject(new Error("timeout")))
}))

const join = async (socket, topic, params = {}) => {
  const channel = socket.channel(topic, params)
  const r = await reply(channel.join())
  assert.ok(r.ok, JSON.stringify(r))
  return channel
}

const next = (channel, event) => within(5000, event, new Promise(resolve => {
  const ref = channel.on(event, payload => { channel.off(event, ref); resolve(payload) })
}))

const eventually = async (what, f) => {
  for(let i = 0; i < 500; i++){
    if(await f()){ return }
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  assert.fail(what)
}

const isLongPoll = (socket) => socket.transport === socket.getLongPollTransport()

for(const transport of [WebSocket, "longpoll"]){
  const name = transport === "longpoll" ? "longpoll" : "websocket"

  test(`${name}: join, push, reply, refusal, leave`, async (t) => {
    const socket = await connect(t, {transport})
    const room = await join(socket, "room:js", {a: 1})
    assert.deepEqual(await reply(room.push("echo", {n: [1, "é"]})), {ok: {n: [1, "é"]}})
    assert.deepEqual(await reply(room.push("fail", {})), {error: {reason: "failed"}})
    assert.deepEqual(await reply(room.push("async_reply", {later: true})), {ok: {later: true}})
    const pushed = next(room, "pushed")
    await reply(room.push("push_me", {n: 1}))
    assert.deepEqual(await pushed, {n: 1})
    assert.deepEqual(await reply(socket.channel("room:forbidden").join()), {error: {reason: "unauthorized"}})
    assert.deepEqual(await reply(socket.channel("nowhere").join()), {error: {reason: "unmatched topic"}})
    const closed = new Promise(resolve => room.onClose(resolve))
    assert.ok((await reply(room.leave())).ok)
    await within(1000, "close", closed)
    assert.equal(room.state, "closed")
  })

  test(`${name}: broadcasts reach the others, in order`, async (t) => {
    const a = await connect(t, {transport}), b = await connect(t)
    const here = await join(a, "room:cast-" + name), there = await join(b, "room:cast-" + name)
    const got = []
    there.on("shout", m => got.push(m.n))
    here.push("shout_many", {n: 200})
    await eventually("200 broadcasts", () => got.length === 200)
    assert.deepEqual(got, Array.from({length: 200}, (_, i) => i + 1))
    const from = next(there, "shout_from")
    here.on("shout_from", () => assert.fail("the sender hears its broadcast_from"))
    await reply(here.push("shout_from", {n: 1}))
    assert.deepEqual(await from, {n: 1})
  })

  test(`${name}: presence`, async (t) => {
    const a = await connect(t, {transport, params: {device_id: "a"}})
    const topic = "sensor:presence-" + name
    const here = a.channel(topic)
    const presence = new Presence(here)
    const keys = () => presence.list(key => key).sort().join()
    await reply(here.join())
    await eventually("a alone", () => keys() === "a")
    const b = await connect(t, {params: {device_id: "b"}})
    const there = await join(b, topic)
    const c = await connect(t, {params: {device_id: "b"}})
    await join(c, topic)
    await eventually("a and b", () => keys() === "a,b" && presence.state.b.metas.length === 2)
    await reply(there.push("typing", {typing: true}))
    await eventually("b types", () => presence.state.b.metas.some(m => m.typing === true))
    assert.equal(presence.state.b.metas.length, 2)
    b.disconnect()
    await eventually("one b left", () => presence.state.b?.metas.length === 1)
    c.disconnect()
    await eventually("a alone again", () => keys() === "a")
  })

  test(`${name}: rejoins after a crash`, async (t) => {
    const socket = await connect(t, {transport})
    const room = await join(socket, "room:crash-" + name)
    let errors = 0
    room.onError(() => errors++)
    room.push("crash", {})
    await eventually("an error and a rejoin", () => errors === 1 && room.state === "joined")
    assert.deepEqual(await reply(room.push("echo", {n: 1})), {ok: {n: 1}})
    assert.equal(socket.connectionState(), "open")
  })

  test(`${name}: reconnects and rejoins after the server restarts`, async (t) => {
    const socket = await connect(t, {transport})
    const room = await join(socket, "room:restart-" + name)
    let joins = 0
    room.joinPush.receive("ok", () => joins++) // counts the join that has been, too
    await ask("/restart")
    await eventually("a rejoin", () => joins >= 2 && room.state === "joined")
    assert.deepEqual(await reply(room.push("echo", {n: 1})), {ok: {n: 1}})
  })

  test(`${name}: comes back after a disconnect`, async (t) => {
    const socket = await connect(t, {transport, params: {device_id: "gone-" + name}})
    const room = await join(socket, "room:gone")
    let opens = 0
    socket.onOpen(() => opens++)
    await fetch(`${url.replace("ws", "http")}/ctl/disconnect?id=gone-${name}`)
    await eventually("open again", () => opens === 1 && room.state === "joined")
  })

  test(`${name}: authToken`, async (t) => {
    const socket = await connect(t, {transport, path: "/socket_auth", params: {}, authToken: "valid"})
    await join(socket, "room:auth")
    const refused = new Socket(url + "/socket_auth", {transport: WebSocket, authToken: "wrong", reconnectAfterMs: () => 1e6})
    if(transport === "longpoll"){ refused.transport = refused.getLongPollTransport() }
    t.after(() => refused.disconnect())
    let opened = false
    refused.onOpen(() => { opened = true })
    const closed = new Promise(resolve => refused.onClose(resolve))
    refused.connect()
    await within(5000, "close", closed)
    assert.equal(opened, false)
  })
}

test("websocket: binary, both ways", async (t) => {
  const a = await connect(t), b = await connect(t)
  const here = await join(a, "room:bin-é"), there = await join(b, "room:bin-é")
  const data = new Uint8Array([0, 1, 2, 255, 254])
  const same = (got) => assert.deepEqual(new Uint8Array(got), data)
  same((await reply(here.push("bin_echo", data.buffer))).ok)
  same((await reply(here.push("bin_fail", data.buffer))).error)
  const pushed = next(here, "bin_pushed")
  await reply(here.push("bin_push", data.buffer))
  same(await pushed)
  const shouted = next(there, "bin_shout")
  await reply(here.push("bin_shout", data.buffer))
  same(await shouted)
})

test("longpoll: binary upstream", async (t) => {
  const socket = await connect(t, {transport: "longpoll"})
  const room = await join(socket, "room:bin")
  assert.deepEqual(await reply(room.push("bin_len", new Uint8Array([0, 255, 7]).buffer)), {ok: {len: 3}})
  const r = await reply(room.push("bin_echo", new Uint8Array([0, 255, 7]).buffer))
  assert.equal(r.error.code, "invalid")
})

test("websocket: heartbeats keep a connection open, silence does not", async (t) => {
  const socket = await connect(t, {path: "/socket_short", heartbeatIntervalMs: 300})
  let closes = 0
  socket.onClose(() => closes++)
  const silent = await connect(t, {path: "/socket_short", heartbeatIntervalMs: 1e6, reconnectAfterMs: () => 1e6})
  const closed = new Promise(resolve => silent.onClose(resolve))
  assert.equal((await within(4000, "close", closed)).code, 1002)
  assert.equal(closes, 0)
})

test("websocket: compressed", async (t) => {
  const socket = await connect(t, {path: "/socket_compress"})
  const room = await join(socket, "room:z")
  const text = "compress me, ".repeat(1000)
  assert.deepEqual(await reply(room.push("echo", {text})), {ok: {text}})
})

// A WebSocket that is blocked fails at once, or never answers.
for(const how of ["refuse", "hang"]){
  test(`falls back to long polling when WebSocket is blocked: ${how}`, async (t) => {
    await ask("/block?how=" + how)
    t.after(() => ask("/block?how="))
    const stored = {}
    const sessionStorage = {getItem: k => stored[k] ?? null, setItem: (k, v) => { stored[k] = v }}
    const socket = await connect(t, {longPollFallbackMs: 500, sessionStorage})
    const room = await join(socket, "room:fallback")
    assert.deepEqual(await reply(room.push("echo", {n: 1})), {ok: {n: 1}})
    assert.ok(isLongPoll(socket))
    assert.equal(stored["phx:fallback:LongPoll"], "true")
  })
}

test("does not fall back when WebSocket works", async (t) => {
  const stored = {}
  const sessionStorage = {getItem: k => stored[k] ?? null, setItem: (k, v) => { stored[k] = v }}
  const socket = await connect(t, {longPollFallbackMs: 300, sessionStorage})
  await join(socket, "room:primary")
  await new Promise(resolve => setTimeout(resolve, 500))
  assert.ok(!isLongPoll(socket))
  assert.deepEqual(stored, {})
})
