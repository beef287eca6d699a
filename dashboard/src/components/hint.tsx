// A small question mark that explains a word of the page.

import { useId, useState } from 'preact/hooks'
import { GLOSSARY, type Term } from '../lib/glossary'

export function Hint({ term }: { term: Term }) {
  const id = useId()
  const [open, setOpen] = useState(false)
  const [word, meaning] = GLOSSARY[term]
  return (
    <>
      <button type="button" class="hint-button" aria-label={`What is: ${word}?`} {...{ popovertarget: id }}>?</button>
      <span id={id} popover="auto" class="hint-text" onBeforeToggle={(e) => setOpen(e.newState === 'open')}>{open && <><strong>{word}</strong> {meaning}</>}</span>
    </>
  )
}
