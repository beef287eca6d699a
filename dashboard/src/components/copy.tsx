// Copying: a button, and a block of code that carries one.

import { useState } from 'preact/hooks'
import { curlFor } from '../lib/snippets'
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

export function CopyButton({ text, label = 'Copy', icon }: { text: string | ((button: HTMLButtonElement) => string); label?: string; icon?: boolean }) {
  const [done, setDone] = useState(false)
  const copy = async (e: MouseEvent) => {
    if (await copyText(typeof text === 'function' ? text(e.currentTarget as HTMLButtonElement) : text)) {
      setDone(true)
      setTimeout(() => setDone(false), 1600)
    } else {
      note('The browser does not allow copying; select the text instead', 'bad')
    }
  }
  return (
    <button type="button" class={icon ? 'icon-button' : 'button small quiet-button'} title={icon ? label : undefined} onClick={copy}>
      {done ? <CheckIcon /> : <CopyIcon />}<span class={icon ? 'visually-hidden' : undefined}>{done ? 'Copied' : label}</span>
    </button>
  )
}

/** A call of the API, as an action of the page makes it. */
export interface Call { method: 'POST' | 'PATCH' | 'DELETE'; path: string; body?: unknown }

/** CurlButton copies what an action would do, for a shell; of a form, with what stands in it. */
export function CurlButton({ call, icon }: { call: Call | ((form: FormData) => Call); icon?: boolean }) {
  const text = (button: HTMLButtonElement) => {
    const { method, path, body } = typeof call === 'function' ? call(new FormData(button.form ?? undefined)) : call
    return curlFor(location.origin, method, path, body)
  }
  return <CopyButton label="Copy as curl" text={text} icon={!!icon} />
}

export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div class="code">
      <pre tabIndex={0} role="region" aria-label={label}><code>{text}</code></pre>
      <CopyButton text={text} />
    </div>
  )
}
