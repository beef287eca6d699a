// What assistive technology is told, and short notes at the edge of the page:
// outcomes of what was asked for, nothing else.

import { signal } from '@preact/signals'

export interface Note { id: number; text: string; look: 'good' | 'bad' | 'plain' }

export const notes = signal<Note[]>([])
let last = 0

/** note shows a line for a few seconds and has it read out. */
export function note(text: string, look: Note['look'] = 'plain'): void {
  const id = ++last
  notes.value = [...notes.value.slice(-2), { id, text, look }]
  setTimeout(() => { notes.value = notes.value.filter((n) => n.id !== id) }, look === 'bad' ? 8000 : 4000)
}

/** spoken is read out and not shown: the page already shows it where it belongs. */
export const spoken = signal('')
export const say = (text: string): void => { spoken.value = text }
