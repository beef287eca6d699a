// The dashboard's own words, explained once.

export const GLOSSARY = {
  fleet: ['Fleet', 'All devices that you may see.'],
  quiet: ['Quiet', 'Connected, but a value is older than three times its usual interval.'],
  unresponsive: ['Unresponsive', 'Connected, but it did not answer the last command.'],
  data_only: ['Data only', 'Its values arrive, but the hub cannot tell whether it is connected.'],
  flapping: ['Flapping', 'It connects and drops out again and again.'],
  status: ['Link, data, last command', 'The three parts of a status: is it connected, are its values fresh, did it answer the last command.'],
  undeclared: ['Undeclared', 'A metric that nobody has described: it is kept and listed, and not charted.'],
  adopt: ['Adopt', 'To take in a device that an adapter has met: from then on its values are kept and it can be controlled.'],
  adapter: ['Adapter', 'What translates for devices that speak in another way: Zigbee2MQTT, Tasmota, Home Assistant.'],
  bridge: ['Bridge', 'The hub’s connection to another MQTT broker.'],
  sink: ['Sink', 'Another database that gets a copy of all readings, such as InfluxDB.'],
  node: ['Node', 'A running hub.'],
  token: ['Token', 'A device’s password. It is shown once, when it is made.'],
  rotate: ['Rotate', 'To make a new token. The one before works until its time of grace ends.'],
  keys: ['Signing key', 'What the hub signs tokens with. To end one ends every token under it.'],
  shadow: ['Shadow', 'What a light shall be and what it last said it is.'],
  trace: ['Raw frames', 'Everything that a device sends and gets, as it comes.'],
  looped: ['Looped', 'Messages of the hub’s own that a broker handed back; they are left out.'],
} as const satisfies Record<string, readonly [string, string]>

export type Term = keyof typeof GLOSSARY
