import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
// @ts-expect-error: a script, which has no types
import { generate, schemas } from '../../types.mjs'

test('api.ts is what the schemas of the OpenAPI document make of it: npm run types', () => {
  expect(readFileSync(new URL('./api.ts', import.meta.url), 'utf8')).toBe(generate(schemas()))
})
