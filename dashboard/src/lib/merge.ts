// Changes as RFC 7396 writes them: the fields that differ, null for one that goes.

type Fields = Record<string, unknown>

const isFields = (v: unknown): v is Fields => typeof v === 'object' && v !== null && !Array.isArray(v)

/** difference is the patch that makes `to` of `from`; an empty one changes nothing. */
export function difference(from: Fields, to: Fields): Fields {
  const patch: Fields = {}
  for (const [name, v] of Object.entries(to)) {
    const before = from[name]
    if (isFields(v) && isFields(before)) {
      const inner = difference(before, v)
      if (Object.keys(inner).length) patch[name] = inner
    } else if (JSON.stringify(v) !== JSON.stringify(before)) {
      patch[name] = v
    }
  }
  for (const name of Object.keys(from)) if (!(name in to)) patch[name] = null
  return patch
}
