// The address that the QR code of a new token holds.

import type { Kind } from './types'

/** HANDOVER is the page that shows a token to whoever scanned its QR code. */
export const HANDOVER = '/handover'

/** handoverURL is its address for one token. What it tells stands in the fragment, which no browser sends anywhere. */
export const handoverURL = (origin: string, id: string, kind: Kind, token: string): string =>
  `${origin}${HANDOVER}#${new URLSearchParams({ id, kind, token })}`
