// The page's pictures: 20 by 20 strokes in the colour of the text around them.

import type { ComponentChildren } from 'preact'

const icon = (children: ComponentChildren) => (
  <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">{children}</svg>
)

export const FleetIcon = () => icon(<><rect x="3" y="3.5" width="14" height="5" rx="1.6" /><rect x="3" y="11.5" width="14" height="5" rx="1.6" /><path d="M6 6h.01M6 14h.01" /></>)
export const CommandsIcon = () => icon(<path d="M4 5.5 8 10l-4 4.5M10.5 15H16" />)
export const OnboardIcon = () => icon(<><circle cx="10" cy="10" r="7" /><path d="M10 7v6M7 10h6" /></>)
export const AdminIcon = () => icon(<><path d="M10 2.8 4 5v4.6c0 3.6 2.4 6.3 6 7.6 3.6-1.3 6-4 6-7.600V5z" /><path d="m7.5 9.8 1.8 1.8 3.2-3.4" /></>)
export const SearchIcon = () => icon(<><circle cx="9" cy="9" r="5.2" /><path d="m13 13 4 4" /></>)
export const BackIcon = () => icon(<path d="M12 4.5 6.5 10l5.5 5.5" />)
export const ChevronIcon = () => icon(<path d="m6 8 4 4 4-4" />)
export const PauseIcon = () => icon(<path d="M7.2 5v10M12.8 5v10" />)
export const PlayIcon = () => icon(<path d="M7 4.800v10.400l8-5.200z" />)
export const DownloadIcon = () => icon(<path d="M10 3.500v9M6.3 9.2 10 12.800l3.7-3.600M4 16.500h12" />)
export const TableIcon = () => icon(<><rect x="3" y="4" width="14" height="12" rx="1.6" /><path d="M3 8.300h14M8.5 8.300V16" /></>)
export const CopyIcon = () => icon(<><rect x="7" y="7" width="9.5" height="9.5" rx="1.6" /><path d="M13 7V5.100A1.6 1.6 0 0 0 11.4 3.500H5.100A1.6 1.6 0 0 0 3.5 5.100v6.300A1.6 1.6 0 0 0 5.1 13H7" /></>)
export const CheckIcon = () => icon(<path d="m4.5 10.5 3.8 3.8 7.2-8" />)
export const CloseIcon = () => icon(<path d="m5 5 10 10M15 5 5 15" />)
export const SunIcon = () => icon(<><circle cx="10" cy="10" r="3.2" /><path d="M10 2.500v1.800M10 15.700v1.800M2.5 10h1.800M15.7 10h1.800M4.7 4.7 6 6M14 14l1.3 1.300M15.3 4.7 14 6M6 14l-1.3 1.3" /></>)
export const UserIcon = () => icon(<><circle cx="10" cy="7" r="3.2" /><path d="M3.8 16.500c.8-3 3.2-4.6 6.2-4.600s5.4 1.6 6.2 4.6" /></>)
export const EyeIcon = () => icon(<><path d="M2.5 10S5.2 5 10 5s7.5 5 7.5 5-2.7 5-7.5 5-7.5-5-7.5-5z" /><circle cx="10" cy="10" r="2.2" /></>)
export const PowerIcon = () => icon(<path d="M10 3v6.500M6 5.600a6 6 0 1 0 8 0" />)
