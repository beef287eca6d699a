package main

import (
	"net/http"

	"devicehub/hub/edge"
)

// filesKeptBack are the descriptors that connections leave, beside those of the readings store: to
// the admin socket, the other stores, and a few connections more for the health routes.
const filesKeptBack = 32

// storeFiles is how many files the readings store may hold open, of all that the process may.
func storeFiles(files int) int {
	const enough = 1000
	if files == 0 {
		return enough
	}
	return min(enough, max(files/4, 32))
}

// newGate is what the listeners have in common: connections that have yet to sign in are counted
// over all of them.
func (a *assembly) newGate() *edge.Gate {
	files := edge.Files()
	return &edge.Gate{
		Arrive: func(addr string, free bool, shut func()) edge.Guest {
			return a.quota.Arrive(addr, free, shut)
		},
		MakeRoom: a.quota.MakeRoom, Files: files, Spare: storeFiles(files) + filesKeptBack, Logger: a.Log,
	}
}

// knowConn says of a request's connection that its client has signed in.
func knowConn(r *http.Request) { edge.ConnOf(r).Known() }
