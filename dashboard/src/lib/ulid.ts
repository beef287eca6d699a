// Command ids made here, so that a push repeated after a lost connection is the
// same command (devices/README.md#commands). ULID: 48 bits of time, 80 of chance, Crockford's base 32.

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

export function ulid(now = Date.now(), random = crypto.getRandomValues(new Uint8Array(16))): string {
  let time = ''
  for (let i = 0, t = Math.floor(now); i < 10; i++, t = Math.floor(t / 32)) time = ALPHABET[t % 32]! + time
  let chance = ''
  for (const b of random) chance += ALPHABET[b % 32]!
  return time + chance
}
