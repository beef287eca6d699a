// Changes of a fleet view, applied without touching what did not change.

import type { FleetRow } from './types'

export type RowPatch = Partial<FleetRow> & { id: string }

/** patched returns the row with the patch's fields; latest is merged metric by metric. */
export function patched(row: FleetRow, patch: RowPatch): FleetRow {
  const next: FleetRow = { ...row, ...patch }
  if (patch.latest) next.latest = { ...row.latest, ...patch.latest }
  if (patch.light) next.light = { ...row.light, ...patch.light }
  return next
}
