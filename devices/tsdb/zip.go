package tsdb

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zipper is zstd for the texts of chunks. It is made when the first is met:
// most hubs keep none.
type zipper struct {
	once sync.Once
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	err  error
}

// maxText is what a block of texts may expand to: 512 values of 255 bytes, and
// some.
const maxText = 256 << 10

func (z *zipper) open() error {
	z.once.Do(func() {
		z.enc, z.err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
		if z.err == nil {
			z.dec, z.err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxText))
		}
	})
	return z.err
}

// compress returns b itself when that fails.
func (z *zipper) compress(b []byte) []byte {
	if len(b) < 64 || z.open() != nil {
		return b
	}
	return z.enc.EncodeAll(b, nil)
}

func (z *zipper) expand(b []byte) ([]byte, error) {
	if err := z.open(); err != nil {
		return nil, err
	}
	return z.dec.DecodeAll(b, nil)
}
