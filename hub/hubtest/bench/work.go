package main

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// parallel calls f for 0 to n-1 from a few goroutines and returns the first error.
func parallel(n int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, 32)
	for range min(32, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// clients connects and joins n clients.
func clients(sv *server, n int, topic func(i int) string) ([]*client, error) {
	all := make([]*client, n)
	err := parallel(n, func(i int) (err error) {
		if all[i], err = connect(sv.addr, i); err == nil && topic != nil {
			err = all[i].join(topic(i))
		}
		return err
	})
	return all, err
}

func rawClients(sv *server, n int) ([]*client, error) {
	all := make([]*client, n)
	err := parallel(n, func(i int) (err error) {
		if all[i], err = dial(sv.addr, i); err != nil {
			return err
		}
		// A connection stands before the server has accepted it; an answer says that it has.
		if _, err := all[i].Write(rawRequest('p', 0, 0)); err != nil {
			return err
		}
		_, err = all[i].r.ReadByte()
		return err
	})
	return all, err
}

func closeAll(all []*client) {
	for _, c := range all {
		if c != nil {
			c.Close()
		}
	}
}

// drain reads and counts bytes until each client has got the given number.
func drain(all []*client, bytes int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for left := bytes; left > 0; {
				n, err := c.r.Read(buf)
				if err != nil {
					return
				}
				left -= n
			}
		})
	}
	return &wg
}

// sent is the size of a broadcast of the peer with so much padding, header included, when n
// has one digit.
func sent(pad int) int {
	body := len(`[null,null,"room:bench","e",{"n":1,"pad":""}]`) + pad
	if body < 126 {
		return body + 2
	}
	return body + 4
}

const padding = 151 // for 200 bytes

// fanout measures the CPU of a delivery: 1000 receivers, one message of 200 bytes a write.
func fanout(s *setup) (row, error) {
	return fan(s, 1, "fan-out 1 to 1000, 200 bytes", 1000, 1)
}

// queued is fanout with 16 messages handed over together.
func queued(s *setup) (row, error) {
	return fan(s, 1, "fan-out, 16 messages together", 1000, 16)
}

// onTwo runs a bench with the server on one core and then on two, and compares them.
func onTwo(bench func(cores int) (row, error)) (row, error) {
	one, err := bench(1)
	if err != nil {
		return one, err
	}
	two, err := bench(2)
	two.work += ", on two cores"
	two.note = fmt.Sprintf("%.2f times one core's %.3g; raw %.2f times", two.hub/one.hub, one.hub, two.raw/one.raw)
	return two, err
}

// fanout2 and reply2 measure what a second core costs: the server with GOMAXPROCS 2 against 1.
func fanout2(s *setup) (row, error) {
	return onTwo(func(cores int) (row, error) { return fan(s, cores, "fan-out 1 to 1000, 200 bytes", 1000, 1) })
}

func reply2(s *setup) (row, error) {
	return onTwo(func(cores int) (row, error) { return replyOn(s, cores) })
}

func fan(s *setup, cores int, work string, conns, together int) (row, error) {
	rounds := s.n(300)
	flag := 0
	if together > 1 {
		rounds, flag = s.n(100), 1
	}
	size := 0 // of all messages of a round
	for i := 1; i <= together; i++ {
		size += sent(padding + len(fmt.Sprint(i)) - 1)
	}
	r := row{work: work, unit: "CPU µs a delivery"}

	sv, err := s.hubOn(cores)
	if err != nil {
		return r, err
	}
	defer sv.stop()
	all, err := clients(sv, conns, func(int) string { return "room:bench" })
	defer closeAll(all)
	if err != nil {
		return r, err
	}
	one := func(rounds int) (time.Duration, error) {
		before := sv.cpu()
		for range rounds {
			wg := drain(all, size)
			res, err := http.Get(fmt.Sprintf("http://%s/ctl/broadcast?topic=room:bench&event=e&n=%d&size=%d&together=%d", sv.addr, together, padding, flag))
			if err != nil {
				return 0, err
			}
			res.Body.Close()
			wg.Wait()
		}
		return sv.cpu() - before, nil
	}
	if _, err := one(20); err != nil {
		return r, err
	}
	kernel := ksoftirqd()
	used, err := one(rounds)
	if err != nil {
		return r, err
	}
	r.hub = micros(used, rounds*conns*together)
	r.note = fmt.Sprintf("ksoftirqd %.2g", micros(ksoftirqd()-kernel, rounds*conns*together))
	size = sent(padding)

	raw, err := s.rawOn(cores)
	if err != nil {
		return r, err
	}
	defer raw.stop()
	rawAll, err := rawClients(raw, conns)
	defer closeAll(rawAll)
	if err != nil {
		return r, err
	}
	before := raw.cpu()
	kernel = ksoftirqd()
	for range rounds {
		wg := drain(rawAll, size)
		rawAll[0].Write(rawRequest('b', size, 1))
		wg.Wait()
	}
	r.raw = micros(raw.cpu()-before, rounds*conns)
	r.note += fmt.Sprintf(", raw %.2g", micros(ksoftirqd()-kernel, rounds*conns))
	if together > 1 {
		r.note += "; raw: one message a write"
	}
	return r, nil
}

func micros(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }

// reply measures the CPU of a request and its reply: 1000 clients, 120 bytes.
func reply(s *setup) (row, error) { return replyOn(s, 1) }

func replyOn(s *setup, cores int) (row, error) {
	const conns = 1000
	rounds := s.n(100)
	r := row{work: "request and reply, 120 bytes", unit: "CPU µs"}
	sv, err := s.hubOn(cores)
	if err != nil {
		return r, err
	}
	defer sv.stop()
	all, err := clients(sv, conns, func(i int) string { return fmt.Sprintf("room:own%d", i) })
	defer closeAll(all)
	if err != nil {
		return r, err
	}
	rest := `","reading",{"metric":"temperature","v":21.5,"t":1790000000000,"pad":"xxxxxxxxxxxxxxxxxxxxx"}]`
	run := func(rounds int) error {
		return forAll(all, func(i int, c *client) error {
			request := masked(fmt.Sprintf(`["1","2","room:own%d%s`, i, rest))
			buf := make([]byte, 512)
			for range rounds {
				if _, err := c.Write(request); err != nil {
					return err
				}
				if _, err := c.read(buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := run(10); err != nil {
		return r, err
	}
	before := sv.cpu()
	if err := run(rounds); err != nil {
		return r, err
	}
	r.hub = micros(sv.cpu()-before, conns*rounds)

	raw, err := s.rawOn(cores)
	if err != nil {
		return r, err
	}
	defer raw.stop()
	rawAll, err := rawClients(raw, conns)
	defer closeAll(rawAll)
	if err != nil {
		return r, err
	}
	const size = 75 // of the hub's reply
	request := rawRequest('r', size, 111)
	rawRun := func(rounds int) error {
		return forAll(rawAll, func(_ int, c *client) error {
			buf := make([]byte, size)
			for range rounds {
				if _, err := c.Write(request); err != nil {
					return err
				}
				if _, err := io.ReadFull(c.r, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := rawRun(10); err != nil {
		return r, err
	}
	before = raw.cpu()
	if err := rawRun(rounds); err != nil {
		return r, err
	}
	r.raw = micros(raw.cpu()-before, conns*rounds)
	return r, nil
}

func forAll(all []*client, f func(i int, c *client) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(all))
	for i, c := range all {
		wg.Go(func() { errs <- f(i, c) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// joins measures connecting, upgrading, joining and tracking: 10,000 clients, each on a topic of
// its own.
func joins(s *setup) (row, error) {
	n := s.n(10000)
	r := row{work: fmt.Sprintf("%d connect, join, track", n), unit: "CPU µs each", note: "raw: accept only"}
	sv, err := s.hub()
	if err != nil {
		return r, err
	}
	defer sv.stop()
	before := sv.cpu()
	all, err := clients(sv, n, func(i int) string { return fmt.Sprintf("sensor:own%d", i) })
	if err != nil {
		closeAll(all)
		return r, err
	}
	time.Sleep(200 * time.Millisecond)
	r.hub = micros(sv.cpu()-before, n)
	closeAll(all)
	raw, err := s.raw()
	if err != nil {
		return r, err
	}
	defer raw.stop()
	before = raw.cpu()
	rawAll, err := rawClients(raw, n)
	defer closeAll(rawAll)
	if err != nil {
		return r, err
	}
	time.Sleep(200 * time.Millisecond)
	r.raw = micros(raw.cpu()-before, n)
	return r, nil
}

// presenceJoins measures 1000 members joining one tracked topic, each getting the state and
// the diffs.
func presenceJoins(s *setup) (row, error) {
	n := s.n(1000)
	r := row{work: fmt.Sprintf("%d members of one tracked topic join", n), unit: "CPU s in all"}
	sv, err := s.hub()
	if err != nil {
		return r, err
	}
	defer sv.stop()
	all, err := clients(sv, n, nil)
	defer closeAll(all)
	if err != nil {
		return r, err
	}
	var bytes, frames atomic.Int64
	for _, c := range all {
		go func() {
			var buf []byte
			for {
				body, err := c.read(buf)
				if err != nil {
					return
				}
				buf = body[:cap(body)]
				bytes.Add(int64(len(body)))
				frames.Add(1)
			}
		}()
	}
	before := sv.cpu()
	err = parallel(n, func(i int) error {
		_, err := all[i].Write(masked(`["1","1","sensor:all","phx_join",{}]`))
		return err
	})
	if err != nil {
		return r, err
	}
	for last := int64(-1); last != bytes.Load(); time.Sleep(300 * time.Millisecond) {
		last = bytes.Load()
	}
	r.hub = (sv.cpu() - before).Seconds()
	r.note = fmt.Sprintf("%.0f MB in %d frames; raw: as many bytes in as many writes", float64(bytes.Load())/1e6, frames.Load())

	raw, err := s.raw()
	if err != nil {
		return r, err
	}
	defer raw.stop()
	rawAll, err := rawClients(raw, n)
	defer closeAll(rawAll)
	if err != nil {
		return r, err
	}
	size, writes := int(bytes.Load()/frames.Load()), int(frames.Load())/n
	before = raw.cpu()
	wg := drain(rawAll, size*writes)
	if _, err := rawAll[0].Write(rawRequest('b', size, writes)); err != nil {
		return r, err
	}
	wg.Wait()
	r.raw = (raw.cpu() - before).Seconds()
	return r, nil
}

// memory measures what an idle connection costs that is joined to a topic of its own and tracked
// there.
func memory(s *setup) (row, error) {
	n := s.n(10000)
	r := row{work: fmt.Sprintf("idle, joined, tracked; %d of them", n), unit: "KB resident each", note: "raw: a goroutine that reads"}
	sv, err := s.hub()
	if err != nil {
		return r, err
	}
	defer sv.stop()
	warm, err := clients(sv, 100, func(i int) string { return fmt.Sprintf("sensor:warm%d", i) })
	defer closeAll(warm)
	if err != nil {
		return r, err
	}
	before := sv.rss()
	all, err := clients(sv, n, func(i int) string { return fmt.Sprintf("sensor:own%d", i) })
	if err != nil {
		closeAll(all)
		return r, err
	}
	settle(sv)
	r.hub = float64(sv.rss()-before) / float64(n) / 1000
	closeAll(all)
	raw, err := s.raw()
	if err != nil {
		return r, err
	}
	defer raw.stop()
	before = raw.rss()
	rawAll, err := rawClients(raw, n)
	defer closeAll(rawAll)
	if err != nil {
		return r, err
	}
	time.Sleep(200 * time.Millisecond)
	r.raw = float64(raw.rss()-before) / float64(n) / 1000
	return r, nil
}

// settle has the server collect its garbage and give it back.
func settle(sv *server) {
	res, err := http.Get("http://" + sv.addr + "/ctl/gc")
	if err == nil {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	time.Sleep(300 * time.Millisecond)
}
