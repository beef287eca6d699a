import { describe, expect, test } from 'vitest'
import { colourParams, fromPercent, groupsOf, hex, hsToRgb, kelvinToRgb, offers, opText, parseHex, rgbToHs, rgbToXy, stateText, toPercent, xyToRgb } from './light'

describe('brightness for people', () => {
  test('every percent comes back to itself', () => {
    for (let pct = 1; pct <= 100; pct++) expect(toPercent(fromPercent(pct))).toBe(pct)
  })
  test('stays within 1..255 and within 1..100', () => {
    expect([fromPercent(1), fromPercent(100), toPercent(1), toPercent(255)]).toEqual([1, 255, 1, 100])
  })
})

describe('colours', () => {
  test.each([[0, 100, '#ff0000'], [120, 100, '#00ff00'], [240, 100, '#0000ff'], [30, 100, '#ff8000'], [0, 0, '#ffffff']] as const)('hue %d, saturation %d is %s', (h, s, want) => {
    expect(hex(hsToRgb(h, s))).toBe(want)
  })
  test('hue and saturation survive the way there and back, to a degree and a percent', () => {
    for (let h = 0; h < 360; h += 7) {
      for (let s = 20; s <= 100; s += 16) {
        const [h2, s2] = rgbToHs(hsToRgb(h, s))
        expect(Math.min(Math.abs(h - h2), 360 - Math.abs(h - h2))).toBeLessThanOrEqual(2)
        expect(Math.abs(s - s2)).toBeLessThanOrEqual(1)
      }
    }
  })
  test('xy comes back as nearly the same colour', () => {
    for (const rgb of [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 170, 90]] as [number, number, number][]) {
      const back = xyToRgb(...rgbToXy(rgb))
      for (const [i, c] of rgb.entries()) expect(Math.abs(c - back[i]!)).toBeLessThan(12)
    }
  })
  test.each([['#ff7800', [255, 120, 0]], ['ff7800', [255, 120, 0]], ['#f70', [255, 119, 0]], ['#ff780', null], ['red', null], ['', null]])('reads %s', (text, want) => {
    expect(parseHex(text)).toEqual(want)
  })
  test('warm white is warmer than cold white', () => {
    expect(kelvinToRgb(2200)[2]).toBeLessThan(kelvinToRgb(6500)[2])
  })
})

test('a colour is said in the form that the light takes', () => {
  expect(colourParams({ modes: ['rgb', 'color_temp'] }, [255, 0, 0])).toEqual({ rgb: [255, 0, 0] })
  expect(colourParams({ modes: ['hs'] }, [255, 0, 0])).toEqual({ hs: [0, 100] })
  expect(colourParams({ modes: ['xy'] }, [255, 0, 0])).toHaveProperty('xy')
})

test('what a light offers follows its modes', () => {
  expect(offers({ modes: ['onoff'] })).toMatchObject({ dim: false, colour: false, white: false })
  expect(offers({ modes: ['brightness'] })).toMatchObject({ dim: true, colour: false, white: false })
  expect(offers({ modes: ['hs', 'color_temp'], min_kelvin: 2200, effects: ['none', 'fire'] })).toEqual({ dim: true, colour: true, white: true, kelvin: [2200, 6535], effects: ['fire'] })
})

test('groups of fields', () => {
  expect(groupsOf('set', { on: true, kelvin: 2700 })).toEqual(['power', 'colour'])
  expect(groupsOf('set', { effect: 'none' })).toEqual(['effect'])
  expect(groupsOf('toggle')).toEqual(['power'])
  expect(groupsOf('identify')).toEqual([])
})

test('commands and states in words', () => {
  expect(opText('set', { on: true, brightness: 199 })).toBe('Turn on · brightness 78 %')
  expect(opText('set', { kelvin: 2700 })).toBe('White 2700 K')
  expect(opText('set', { rgb: [255, 120, 0] })).toBe('Colour #ff7800')
  expect(opText('step', { pct_delta: -10 })).toBe('Step −10 %')
  expect(opText('reboot')).toBe('reboot')
  expect(stateText({ on: true, brightness: 199, kelvin: 2700 })).toBe('On · 78 % · 2700 K')
  expect(stateText({ on: false, brightness: 10 })).toBe('Off')
  expect(stateText(undefined)).toBe('Unknown')
})
