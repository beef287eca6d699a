package readings_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"devicehub/devices/readings"
)

func TestFloatsAsEncodingJSONWritesThem(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	fs := []float64{0, 1, -1, 0.1, -0.5, 21.4, 0.0001, 0.00001, 1e-6, 1e-7, 0.30000000000000004, 99999999999.9999, 1e11 + 0.0001, 123456789012345.6,
		1e15, 1e15 + 0.5, 1e20, 1e21, 1 << 53, 5e-324, math.MaxFloat64, math.Nextafter(0.3, 1), math.Nextafter(21.4, 0), math.Nextafter(1, 0)}
	for range 100_000 {
		f := float64(r.Int64N(1<<r.IntN(54)+1)) / math.Pow10(r.IntN(8))
		fs = append(fs, f, -f+0, math.Nextafter(f, 1e300), r.NormFloat64(), math.Exp(100*r.NormFloat64()))
	}
	for _, f := range fs {
		want, err := json.Marshal(f)
		if got := readings.Float(f).AppendJSON(nil); err != nil || string(got) != string(want) {
			t.Fatalf("got %s, want %s, %v", got, want, err)
		}
	}
}
