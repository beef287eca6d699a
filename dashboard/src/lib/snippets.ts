// One-liners that connect a device, and copies of what the page does as curl.

/** quote makes one word of a POSIX shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, `'\\''`)}'`
}

export interface Target { id: string; kind: 'sensor' | 'light'; token: string; origin: string }

export interface Snippet { name: string; language: string; text: string }

/** snippets are ways to make a new device speak, each complete. */
export function snippets({ id, kind, token, origin }: Target): Snippet[] {
  const host = new URL(origin).hostname
  const ws = origin.replace(/^http/, 'ws')
  const first = kind === 'light' ? `{"on":true,"brightness":200,"cause":"boot"}` : `{"m":"temperature","v":21.4}`
  const event = kind === 'light' ? 'state' : 'reading'
  const list: Snippet[] = [
    {
      name: 'firmware-sim', language: 'sh',
      text: `firmware-sim ${kind} --hub ${quote(origin)} \\\n  --device ${id} \\\n  --token ${quote(token)}`,
    },
  ]
  if (kind === 'sensor') {
    list.push({
      name: 'curl', language: 'sh',
      text: `curl ${quote(`${origin}/api/v1/devices/${id}/readings`)} \\\n  -H ${quote(`Authorization: Bearer ${token}`)} \\\n  -H 'Content-Type: application/json' \\\n  -d '{"r":[["temperature",21.4]]}'`,
    })
  }
  list.push(
    {
      name: 'mosquitto_pub', language: 'sh',
      text: `mosquitto_pub -h ${quote(host)} -p 1883 -q 1 -u ${id} \\\n  -P ${quote(token)} \\\n  -t hub/v1/${id}/${kind === 'light' ? 'state' : 'r'} \\\n  -m '${first}'`,
    },
    {
      name: 'JavaScript', language: 'js',
      text: `import { Socket } from "phoenix"

const socket = new Socket("${ws}/socket", { authToken: "${token}" })
socket.connect()

const device = socket.channel("${kind}:${id}", {})
device.join()
  .receive("ok", () => device.push("${event}", ${jsObject(first)}))
  .receive("error", (e) => console.error(e.code, e.reason))` + (kind === 'light' ? `

device.on("command", (c) => {
  device.push("ack", { cmd_id: c.cmd_id, status: "done" })
  device.push("state", { ...c.params, cause: "command", cmd: c.cmd_id })
})` : ''),
    },
    {
      name: 'Go', language: 'go',
      text: `package main

import (
	"log"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	c := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("tcp://${host}:1883").
		SetUsername("${id}").
		SetPassword("${token}"))
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		log.Fatal(t.Error())
	}
	t := c.Publish("hub/v1/${id}/${kind === 'light' ? 'state' : 'r'}", 1, false, \`${first}\`)
	if t.Wait(); t.Error() != nil { // acknowledged means stored
		log.Fatal(t.Error())
	}
}`,
    },
  )
  return list
}

const jsObject = (json: string) => json.replace(/"(\w+)":/g, '$1: ').replace(/,(?=\w)/g, ', ').replace(/^\{(.*)\}$/, '{ $1 }')

/** curlFor is a request of the page as a command line; the token stays the reader's own. */
export function curlFor(origin: string, method: string, path: string, body?: unknown): string {
  const words = ['curl']
  if (method !== 'GET') words.push('-X', method)
  words.push(quote(`${origin}/api/v1${path}`), '-H', '"Authorization: Bearer $DEVICEHUB_TOKEN"')
  if (body !== undefined) words.push('-H', quote('Content-Type: application/json'), '-d', quote(JSON.stringify(body)))
  return words.join(' ')
}
