// Editing a record that somebody else may edit at the same time: a form says which
// version it was drawn from, and the hub refuses it when there is a newer one.

import { useEffect, useState } from 'preact/hooks'
import { note } from '../state/announce'
import { asError, patch, type ApiError } from '../state/api'
import { difference } from './merge'

type Fields = Record<string, unknown>

export interface Edit<T> {
  /** base is the record that the form is drawn from; its ver is the form's key. */
  base: T
  /** theirs is a newer record, while what stands in the form is not saved. */
  theirs: T | undefined
  error: ApiError | undefined
  busy: boolean
  /** touched is told of every input. */
  touched: () => void
  /** change is what the form asks for, as a patch of base. */
  change: (want: Fields) => Fields
  /** save sends it; with over, to the newer record. */
  save: (want: Fields, over?: boolean) => Promise<void>
  /** discard draws the form from the newer record. */
  discard: () => void
}

/** useEdit edits the record at path. fields are those that the form shows; live is the record as it is known now. */
export function useEdit<T extends { ver?: number }>(path: string, live: T, fields: (record: T) => Fields, onSaved: (record: T) => void): Edit<T> {
  const [base, setBase] = useState(live)
  const [refused, setRefused] = useState<T>()
  const [dirty, setDirty] = useState(false)
  const [error, setError] = useState<ApiError>()
  const [busy, setBusy] = useState(false)
  const newer = (r: T | undefined) => (r && (r.ver ?? 0) > (base.ver ?? 0) ? r : undefined)
  const theirs = newer(refused) && (refused!.ver ?? 0) >= (live.ver ?? 0) ? refused : newer(live)
  const draw = (record: T) => {
    setBase(record)
    setRefused(undefined)
    setDirty(false)
    setError(undefined)
  }
  useEffect(() => { if (theirs && !dirty && !busy) draw(theirs) }, [theirs?.ver, dirty, busy])

  const change = (want: Fields) => difference(fields(base), want)
  const save = async (want: Fields, over = false) => {
    const asked = change(want)
    setError(undefined)
    if (!Object.keys(asked).length) return note('Nothing has changed')
    setBusy(true)
    try {
      const saved = await patch<T>(path, { ...asked, if_ver: (over ? theirs : base)?.ver })
      draw(saved)
      note('Saved', 'good')
      onSaved(saved)
    } catch (e) {
      const err = asError(e)
      const current = err.code === 'version_conflict' ? (err.details?.current as T | undefined) : undefined
      if (current) {
        setDirty(true)
        setRefused(current)
      } else setError(err)
    }
    setBusy(false)
  }
  // While it is being saved, what is newer may be just that.
  return { base, theirs: dirty && !busy ? theirs : undefined, error, busy, touched: () => setDirty(true), change, save, discard: () => { if (theirs) draw(theirs) } }
}
