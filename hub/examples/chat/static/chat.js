// The page of the chat. ?name= chooses a name.
const { Presence, Socket } = Phoenix
const $ = (id) => document.getElementById(id)
const name = new URLSearchParams(location.search).get("name") || prompt("Who are you?") || "somebody"

const socket = new Socket("/socket", { params: { name }, longPollFallbackMs: 3000 })
socket.onError(() => { $("here").textContent = "connecting" })
socket.connect()

const room = socket.channel("room:lobby")
const here = new Presence(room)
here.onSync(() => {
  $("here").textContent = "here: " + here.list((who, { metas }) => metas.length > 1 ? `${who} (${metas.length})` : who).join(", ")
})

room.on("said", ({ by, text }) => {
  const line = document.createElement("li")
  line.textContent = `${by}: ${text}`
  $("said").append(line)
  $("typing").textContent = ""
})

let quiet
room.on("typing", ({ by }) => {
  $("typing").textContent = `${by} is typing`
  clearTimeout(quiet)
  quiet = setTimeout(() => { $("typing").textContent = "" }, 2000)
})

room.join().receive("error", ({ reason }) => { $("here").textContent = reason })

let told = 0
$("text").addEventListener("input", () => {
  if (Date.now() - told > 1000) {
    told = Date.now()
    room.push("typing", {})
  }
})

$("say").addEventListener("submit", (e) => {
  e.preventDefault()
  const text = $("text").value
  if (text) {
    room.push("say", { text }).receive("ok", () => { $("text").value = "" })
  }
})
