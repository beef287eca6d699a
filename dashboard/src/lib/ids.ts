// Device ids made out of names.

const ID = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** validID reports whether the hub takes it: a DNS label of at most 63 characters. */
export const validID = (id: string): boolean => ID.test(id)

// Letters that have no accent to take off.
const LETTERS: Record<string, string> = { ß: 'ss', æ: 'ae', œ: 'oe', ø: 'o', ł: 'l', đ: 'd', ð: 'd', þ: 'th', ı: 'i', ħ: 'h' }

/** idFrom makes an id out of a name: "Wohnzimmer Fühler" is wohnzimmer-fuhler. */
export function idFrom(name: string): string {
  return name.toLowerCase().replace(/[ßæœøłđðþıħ]/g, (c) => LETTERS[c]!)
    .normalize('NFKD').replace(/\p{M}+/gu, '')
    .replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 63).replace(/-+$/, '')
}
