// Package hostile plays those who mean a hub harm: whoever stole a device, strangers, and people
// and service accounts who ask for more than is theirs. Each does one thing, as fast as it is told
// to, heeds nothing that the hub says, and comes back when it is cut off. What became of it is
// counted; that the hub refuses it is no failure.
//
// A kind of harm is done by so many parties at once:
//
//	p, ok := hostile.New(kind, target)
//	p.Play(ctx, knobs, n, tally)    // the n-th party, until ctx is done
package hostile
