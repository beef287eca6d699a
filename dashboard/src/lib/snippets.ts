// One-liners that connect a device, and copies of what the page does as curl.

/** quote makes one word of a POSIX shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, `'\\''`)}'`
}

/** MQTTWays is where the hub's MQTT listener is; without ports it is off. */
export interface MQTTWays { port?: number; tls_port?: number; root: string }

export interface Target { id: string; kind: 'sensor' | 'light'; token: string; origin: string; mqtt: MQTTWays }

export interface Snippet { name: string; language: string; text: string }

/** snippets are ways to make a new device speak, each complete. */
export function snippets({ id, kind, token, origin, mqtt }: Target): Snippet[] {
  const host = new URL(origin).hostname
  const port = mqtt.port ?? mqtt.tls_port
  const secure = mqtt.port === undefined
  const topic = `${mqtt.root}/${id}/${kind === 'light' ? 'state' : 'r'}`
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
  } else if (mqtt.port !== undefined) {
    // A light has no route of its own; curl speaks MQTT too, without TLS.
    list.push({
      name: 'curl', language: 'sh',
      text: `curl ${quote(`mqtt://${host}:${mqtt.port}/${topic}`)} \\\n  -u ${quote(`${id}:${token}`)} \\\n  -d '${first}'`,
    })
  }
  if (port !== undefined) {
    list.push({
      name: 'mosquitto_pub', language: 'sh',
      text: `mosquitto_pub -h ${quote(host)} -p ${port}${secure ? ' --tls-use-os-certs' : ''} -q 1 -u ${id} \\\n  -P ${quote(token)} \\\n  -t ${quote(topic)} \\\n  -m '${first}'`,
    })
  }
  list.push(
    {
      name: 'JavaScript', language: 'js',
      text: `import { Socket } from "phoenix"

const socket = new Socket("${ws}/socket", { authToken: "${token}" })
socket.connect()

const device = socket.channel("${kind}:${id}", {})
device.join()
  .receive("ok", () => device.push("${event}", ${jsObject(first)}))
  .receive("error", (e) => console.error(e.code, e.reason))${kind === 'light' ? `

device.on("command", (c) => {
  device.push("ack", { cmd_id: c.cmd_id, status: "done" })
  const { transition_ms, ms, ...state } = c.params
  device.push("state", { ...state, cause: "command", cmd: c.cmd_id })
})` : ''}`,
    },
  )
  if (port !== undefined) {
    list.push({
      name: 'Go', language: 'go',
      text: `package main

import (
	"log"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	c := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("${secure ? 'ssl' : 'tcp'}://${host}:${port}").
		SetUsername("${id}").
		SetPassword("${token}"))
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		log.Fatal(t.Error())
	}
	t := c.Publish("${topic}", 1, false, \`${first}\`)
	if t.Wait(); t.Error() != nil { // acknowledged means stored
		log.Fatal(t.Error())
	}
}`,
    })
  }
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
