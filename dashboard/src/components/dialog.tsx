// A modal question over the page, the browser's own dialog element.

import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { asError, type ApiError } from '../state/api'
import { CurlButton, type Call } from './copy'
import { ErrorNote } from './error'
import { CloseIcon } from './icons'

export function Dialog({ title, onClose, children, wide }: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null)
  const id = useId()
  useEffect(() => {
    const d = ref.current
    d?.showModal()
    return () => d?.close()
  }, [])
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it too, by onCancel
    <dialog ref={ref} class={wide ? 'dialog wide' : 'dialog'} aria-labelledby={id} onCancel={(e) => { e.preventDefault(); onClose() }} onClick={(e) => { if (e.target === ref.current) onClose() }}>
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id={id}>{title}</h2>
          <button type="button" class="icon-button" aria-label="Close" onClick={onClose}><CloseIcon /></button>
        </header>
        {children}
      </div>
    </dialog>
  )
}

/** Confirm asks before something that cannot be taken back; typed has the name typed first. */
export function Confirm({ title, text, action, typed, call, run, onClose }: {
  title: string; text: ComponentChildren; action: string; typed?: string; call: Call; run: () => Promise<unknown>; onClose: () => void
}) {
  const [word, setWord] = useState('')
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<ApiError>()
  const id = useId()
  const submit = async (e: Event) => {
    e.preventDefault()
    setBusy(true)
    setError(undefined)
    try {
      await run()
      onClose()
    } catch (err) {
      setError(asError(err))
      setBusy(false)
    }
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit} class="stack">
        <p>{text}</p>
        {typed && (
          <div class="field">
            <label for={id}>Type <code>{typed}</code> to confirm</label>
            <input id={id} value={word} onInput={(e) => setWord(e.currentTarget.value)} autoComplete="off" autoCapitalize="none" spellcheck={false} />
          </div>
        )}
        <ErrorNote error={error} />
        <div class="actions">
          <CurlButton call={call} />
          <span class="spring" />
          <button type="button" class="button" onClick={onClose}>Cancel</button>
          <button type="submit" class="button danger" disabled={busy || (!!typed && word !== typed)}>{action}</button>
        </div>
      </form>
    </Dialog>
  )
}
