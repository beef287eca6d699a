// A stock Phoenix client led by its standard input. Each line is an order
//   {"join": topic, "params": {...}} {"push": topic, "event": e, "payload": {...}, "id": n} {"leave": topic}
// and each thing that the client gets is a line on standard output
//   {"open"|"closed"|"joined"|"refused"|"reply"|"event": ...}
// Arguments: the socket's URL and the token, "" for none. PHOENIX names the package.json that has phoenix and ws.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.env.PHOENIX);
const { Socket, Presence } = require("phoenix");
const [url, token] = process.argv.slice(2);

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const socket = new Socket(url, {
  transport: require("ws"),
  heartbeatIntervalMs: 1000,
  ...(token ? { authToken: token } : {}),
});
const channels = {};

socket.onOpen(() => say({ open: true }));
socket.onClose((e) => say({ closed: true, code: e.code ?? 0, reason: e.reason ?? "" }));
socket.onError(() => say({ error: true }));
socket.connect();

const orders = {
  join({ join: topic, params = {} }) {
    const channel = (channels[topic] = socket.channel(topic, params));
    channel.onMessage = (event, payload) => {
      if (!event.startsWith("chan_reply_") && !event.startsWith("phx_")) say({ event, topic, payload });
      return payload;
    };
    const presence = new Presence(channel);
    presence.onSync(() => say({ present: Object.fromEntries(presence.list((key, { metas }) => [key, metas])), topic }));
    channel.onError((reason) => say({ crashed: topic, reason: reason ?? null }));
    channel.onClose(() => say({ left: topic }));
    channel
      .join()
      .receive("ok", (payload) => say({ joined: topic, payload }))
      .receive("error", (payload) => say({ refused: topic, payload }))
      .receive("timeout", () => say({ timeout: topic }));
  },
  push({ push: topic, event, payload = {}, id = 0 }) {
    const push = channels[topic].push(event, payload);
    for (const status of ["ok", "error", "timeout"])
      push.receive(status, (response) => say({ reply: id, status, response: response ?? null }));
  },
  leave({ leave: topic }) {
    channels[topic].leave();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  for (const name of Object.keys(orders)) if (name in order) orders[name](order);
}
process.exit(0);
