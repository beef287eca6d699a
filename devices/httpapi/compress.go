package httpapi

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// compressing has answers compressed for clients that take gzip. JSON lists and CSV
// shrink about ten times.
//
// Compression tells who can watch the wire, and put words of their own beside a
// secret, something about it (BREACH). So answers with tokens in them are not
// compressed (route.plain), and the length of all others is blurred by a few random
// bytes.
//
// zstd is left out: its encoders hold megabytes each, and whatever takes it takes
// gzip.
func compressing() func(http.Handler) http.HandlerFunc {
	wrap, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false), gzhttp.CompressionLevel(1), gzhttp.SuffixETag(gzipSuffix), gzhttp.RandomJitter(32, 0, false))
	if err != nil { // a programmer's mistake
		panic(err)
	}
	return wrap
}

// gzipSuffix tells the tag of a compressed answer from that of the plain one (RFC
// 9110 §8.8.3.3).
const gzipSuffix = "-gzip"

// takesGzip reports whether a client takes gzip (RFC 9110 §12.5.3).
func takesGzip(h http.Header) bool {
	any := false
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		_, weight, weighed := strings.Cut(strings.ReplaceAll(params, " ", ""), "q=")
		q, err := strconv.ParseFloat(weight, 64)
		takes := !weighed || err == nil && q > 0
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			return takes
		case "*":
			any = takes
		}
	}
	return any
}
