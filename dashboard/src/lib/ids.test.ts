import { expect, test } from 'vitest'
import { idFrom, validID } from './ids'

test('a name becomes an id', () => {
  for (const [name, id] of [
    ['Kitchen lamp', 'kitchen-lamp'],
    ['Wohnzimmer Fühler', 'wohnzimmer-fuhler'],
    ['Wohnzimmer Fu\u0308hler', 'wohnzimmer-fuhler'], // typed with a combining mark
    ['Straße, 3. Stock', 'strasse-3-stock'],
    ['Žluťoučký kůň', 'zlutoucky-kun'],
    ['Smørrebrød Łódź Æther', 'smorrebrod-lodz-aether'],
    ['İstanbul ısı', 'istanbul-isi'],
    ['  --Lamp #3--  ', 'lamp-3'],
    ['灯', ''],
    [`${'x'.repeat(62)} y`, 'x'.repeat(62)],
  ] as const) {
    expect(idFrom(name)).toBe(id)
    expect(validID(id)).toBe(id !== '')
  }
})
