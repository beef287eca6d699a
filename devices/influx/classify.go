package influx

import (
	"errors"
	"net/http"
	"strings"
	"time"

	influxhttp "github.com/influxdata/influxdb-client-go/v2/api/http"
)

// verdict is what an error of the server means for the points.
type verdict int

const (
	retry   verdict = iota // later, the same
	refused                // not before somebody has changed something
	bad                    // some of the points, and no others
	expired                // all are older than the bucket keeps
)

// classify reads an error of a write, and how long the server wants to be left
// alone. A time-out leaves open whether the points were stored; sending them
// again is harmless.
func classify(err error) (verdict, time.Duration) {
	var e *influxhttp.Error
	if !errors.As(err, &e) {
		return retry, 0
	}
	after := time.Duration(e.RetryAfter) * time.Second
	switch e.StatusCode {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return bad, 0
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return refused, after
	case http.StatusInternalServerError:
		// InfluxDB 1.8 answers so for a bucket whose retention policy does not exist.
		if strings.Contains(e.Message, "retention policy not found") {
			return refused, after
		}
	}
	return retry, after
}

// tooOldForBucket reports whether the server refused a point for its age.
func tooOldForBucket(err error) bool {
	return strings.Contains(err.Error(), "points beyond retention policy")
}
