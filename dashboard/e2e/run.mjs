// End to end: a real browser, a real hub, real devices. `node e2e/run.mjs`
// runs all of it and ends as node:test does; hub.mjs says which hub.

import './main.test.mjs'
import './light.test.mjs'
import './connection.test.mjs'
import './onboard.test.mjs'
import './adopt.test.mjs'
import './access.test.mjs'
import './edit.test.mjs'
