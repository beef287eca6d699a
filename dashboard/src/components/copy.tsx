// Copying: a button, and a block of code that carries one.

import { useState } from 'preact/hooks'
import { note } from '../state/announce'
import { CheckIcon, CopyIcon } from './icons'

/** copyText works without the clipboard API too, which browsers keep from pages served over plain HTTP. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const area = document.createElement('textarea')
    area.value = text
    area.className = 'visually-hidden'
    document.body.append(area)
    area.select()
    const ok = document.execCommand('copy')
    area.remove()
    return ok
  }
}

export function CopyButton({ text, label = 'Copy' }: { text: string | (() => string); label?: string }) {
  const [done, setDone] = useState(false)
  const copy = async () => {
    if (await copyText(typeof text === 'function' ? text() : text)) {
      setDone(true)
      setTimeout(() => setDone(false), 1600)
    } else {
      note('The browser does not allow copying; select the text instead', 'bad')
    }
  }
  return (
    <button type="button" class="button small quiet-button" onClick={copy}>
      {done ? <CheckIcon /> : <CopyIcon />}{done ? 'Copied' : label}
    </button>
  )
}

export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div class="code">
      <pre tabIndex={0} aria-label={label}><code>{text}</code></pre>
      <CopyButton text={text} />
    </div>
  )
}
