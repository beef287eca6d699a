import { describe, expect, it } from 'vitest'
import { difference } from './merge'

describe('difference', () => {
  it.each([
    ['nothing', { a: 1, l: { x: '1' } }, { a: 1, l: { x: '1' } }, {}],
    ['a value', { a: 1, b: 2 }, { a: 1, b: 3 }, { b: 3 }],
    ['a value that goes', { a: 'x' as string | null }, { a: null }, { a: null }],
    ['a label added, one changed, one gone', { labels: { k: '1', gone: 'x', same: 's' } }, { labels: { k: '2', new: 'n', same: 's' } }, { labels: { k: '2', new: 'n', gone: null } }],
    ['all labels gone', { labels: { k: '1' } }, { labels: {} }, { labels: { k: null } }],
    ['a list is one value', { topics: ['a', 'b'] }, { topics: ['a'] }, { topics: ['a'] }],
    ['a field gone', { a: 1, b: 2 }, { a: 1 }, { b: null }],
  ])('%s', (_, from, to, want) => {
    expect(difference(from, to)).toEqual(want)
  })
})
