import { defineConfig } from 'vitest/config'

// The hub that `npm run dev` passes the API and the sockets on to.
const hub = process.env.DEVICEHUB_URL ?? 'http://127.0.0.1:4000'

export default defineConfig({
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
