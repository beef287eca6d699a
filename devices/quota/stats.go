package quota

// Limit is a limit that something was refused by.
type Limit uint8

const (
	LimitEvents Limit = iota
	LimitReads
	LimitCalls
	LimitConnects
	LimitMessages
	LimitKept
	LimitSockets
	LimitLongPolls
	LimitAtOnce
	LimitChecks
	LimitFailures
	LimitStored
	LimitSpace
	LimitArrivals
	LimitCutOff // cut off, for going on beyond any of them
	limitNames
)

func (l Limit) String() string {
	return [...]string{"events", "reads", "calls", "connects", "mqtt_messages", "mqtt_kept_bytes", "sockets", "longpolls", "calls_at_once",
		"checks", "failures", "stored_bytes", "space", "unverified", "cut_off"}[l]
}

var classLimit = [classes]Limit{LimitEvents, LimitReads, LimitCalls, LimitConnects, LimitMessages, LimitKept}

var placeLimit = [places]Limit{LimitSockets, LimitLongPolls, LimitAtOnce}

func (q *Quota) count(l Limit) { q.refused[l].Add(1) }

// Refused calls f with each limit and how much was refused by it.
func (q *Quota) Refused(f func(l Limit, n int64)) {
	for l := range limitNames {
		f(l, q.refused[l].Load())
	}
}
