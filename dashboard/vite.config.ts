import { gzipSync } from 'node:zlib'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

// The hub that `npm run dev` passes the API and the sockets on to.
const hub = process.env.DEVICEHUB_URL ?? 'http://127.0.0.1:4000'

const BUDGET = 120_000 // bytes of JavaScript, gzipped, in all

/** budget fails a build that a phone would feel. */
function budget(): Plugin {
  return {
    name: 'budget',
    generateBundle(_options, bundle) {
      let size = 0
      for (const file of Object.values(bundle)) if (file.type === 'chunk') size += gzipSync(file.code).length
      if (size > BUDGET) this.error(`the dashboard has ${size} bytes of gzipped JavaScript, ${size - BUDGET} more than its budget`)
    },
  }
}

export default defineConfig({
  plugins: [budget()],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: 'dist/app',
    emptyOutDir: true,
    target: 'es2022',
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: { proxy: { '/api': hub, '/socket': { target: hub, ws: true } } },
  test: { include: ['src/**/*.test.ts'] },
})
