package hub

import "context"

// Key names one value of type T that a connection carries from where it is let in to all of its
// channels: what Phoenix keeps in assigns. It is a package-level variable:
//
//	var user hub.Key[User]
//
//	func connect(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
//		…
//		return user.Assign(ctx, u), nil
//	}
//
//	func (r *Room) Join(ctx context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error) {
//		u := user.Get(ctx)
//		…
//	}
//
// Two keys are two values, also of the same type. The zero Key is ready for use; it must not be
// copied, since its address is what tells it from others.
type Key[T any] struct {
	_ noCopy
	_ byte // variables of no size may share an address
}

// Assign returns a context that carries value under the key. A ConnectFunc and WithOnOpen return
// it; for one route there is WithAssign.
func (k *Key[T]) Assign(ctx context.Context, value T) context.Context {
	return context.WithValue(ctx, k, value)
}

// Get returns the value under the key, or T's zero value without one.
func (k *Key[T]) Get(ctx context.Context) T {
	v, _ := k.Lookup(ctx)
	return v
}

// Lookup returns the value under the key, and whether there is one.
func (k *Key[T]) Lookup(ctx context.Context) (value T, ok bool) {
	value, ok = ctx.Value(k).(T)
	return value, ok
}

// noCopy makes go vet complain of copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
