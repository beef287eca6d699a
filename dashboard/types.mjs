// Writes src/lib/api.ts, the shapes of the HTTP API, from the schemas of its OpenAPI document:
// `npm run types`. A test holds the file to them.
import { readFileSync, writeFileSync } from 'node:fs'

const HEAD = `// The shapes of the hub's HTTP API. Made by \`npm run types\` from devices/httpapi/schemas.json:
// do not edit.

`

/** generate returns the file's text for the schemas. */
export function generate(schemas) {
  return HEAD + Object.entries(schemas)
    .map(([name, s]) => (s.type === 'object' && s.properties ? `export interface ${name} ${shape(s)}\n` : `export type ${name} = ${type(s)}\n`))
    .join('\n')
}

/** shape is an object type, its fields on lines of their own. */
function shape(s, indent = '') {
  const inner = `${indent}  `
  const lines = Object.entries(s.properties).map(([name, field]) => {
    const doc = field.description ? `${inner}/** ${field.description} */\n` : ''
    return `${doc}${inner}${name}${s.required?.includes(name) ? '' : '?'}: ${type(field, inner)}\n`
  })
  return `{\n${lines.join('')}${indent}}`
}

function type(s, indent = '') {
  if (s.$ref) return s.$ref.split('/').pop()
  if (s.oneOf ?? s.anyOf) return (s.oneOf ?? s.anyOf).map((one) => type(one, indent)).join(' | ')
  if (s.enum) return s.enum.map((v) => `'${v}'`).join(' | ')
  if (Array.isArray(s.type)) return s.type.map((one) => type({ ...s, type: one }, indent)).join(' | ')
  switch (s.type) {
    case 'integer': case 'number': return 'number'
    case 'string': case 'boolean': case 'null': return s.type
    case 'array': {
      const item = s.items ? type(s.items, indent) : 'unknown'
      return /[|{ ]/.test(item) && !item.startsWith('{') ? `(${item})[]` : `${item}[]`
    }
    case 'object':
      if (s.properties) return shape(s, indent)
      return `Record<string, ${s.additionalProperties ? type(s.additionalProperties, indent) : 'unknown'}>`
  }
  return 'unknown'
}

/** schemas are those of the document. */
export function schemas() {
  return JSON.parse(readFileSync(new URL('../devices/httpapi/schemas.json', import.meta.url), 'utf8'))
}

if (process.argv[1] === import.meta.filename) writeFileSync(new URL('src/lib/api.ts', import.meta.url), generate(schemas()))
