package main

import (
	"context"
	"sync"
)

// attack is one kind of hostile client.
type attack struct {
	name string
	who  string // what he has
	does string
	means
}

// means are how an attack is made.
type means struct {
	// arm makes what he needs, a device that was stolen or an account that went astray, and returns
	// its token.
	arm func(h *hub) (token string, err error)
	// run goes on until ctx ends, or until it has done all that it wants. Of the hub it knows the
	// addresses.
	run func(ctx context.Context, h *hub, token string, seen *tally)
}

// attacks are all of them, in the order of the table.
func attacks() (all []attack) {
	for _, of := range [][]attack{socketAttacks(), httpAttacks(), strangerAttacks(), mqttAttacks(), deviceAttacks()} {
		all = append(all, of...)
	}
	return all
}

// together runs f n times at once and waits for all.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
