// NDJSON out of a response body, line by line as it arrives.

export async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<unknown> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      rest += decoder.decode(value, { stream: !done })
      const parts = rest.split('\n')
      rest = done ? '' : parts.pop()!
      for (const part of parts) if (part.trim()) yield JSON.parse(part)
      if (done) return
    }
  } finally {
    reader.releaseLock()
  }
}
