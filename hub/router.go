package hub

import (
	"context"
	"fmt"
	"sort"
	"strings"
)

// ConnectFunc decides whether a client may connect, before the upgrade. The context is the
// connection's own; the one it returns, derived from it, reaches every channel (nil keeps it).
//
// ErrRefused refuses with Phoenix's empty 403. Any other error goes to the error handler of
// the mount, which answers 403 too unless the program brought its own.
type ConnectFunc func(ctx context.Context, info *ConnectInfo) (context.Context, error)

// Router says which Channel serves which topics, for the clients that its ConnectFunc lets in.
type Router struct {
	connect ConnectFunc
	id      func(ctx context.Context) string
	onOpen  func(ctx context.Context, c *Conn) (context.Context, error)
	closing func(c *Conn, cause error)
	exact   map[string]*route
	prefix  []*route // longest first
}

// RouterOption configures a Router.
type RouterOption func(*Router)

// WithID sets the function that names a connection, after connect, from its context. Connections
// with the same non-empty id are closed together by Endpoint.Disconnect, and share the bounds of
// WithShared.
func WithID(f func(ctx context.Context) string) RouterOption { return func(r *Router) { r.id = f } }

// WithOnOpen sets a function that is called when the connection stands, before its first frame is
// read. The context it returns replaces the connection's; nil keeps it. An error closes the
// connection, with its code if it is a *CloseError, and with 1011 otherwise.
func WithOnOpen(f func(ctx context.Context, c *Conn) (context.Context, error)) RouterOption {
	return func(r *Router) { r.onOpen = f }
}

// WithOnClosing sets a function that is called just before the hub closes a connection of its own
// accord, so that the client can be told with Conn.Push. The cause is ErrIdleTimeout, ErrProtocol,
// ErrTooLarge, ErrDisconnected or ErrDrain: what the program closes it need not be told of, and
// a slow consumer would not read it. It must not block.
func WithOnClosing(f func(c *Conn, cause error)) RouterOption {
	return func(r *Router) { r.closing = f }
}

// NewRouter returns a Router without channels. A nil connect lets everybody in.
func NewRouter(connect ConnectFunc, opts ...RouterOption) *Router {
	r := &Router{connect: connect, exact: make(map[string]*route)}
	for _, o := range opts {
		o(r)
	}
	return r
}

// RouteOption configures one pattern of a Router.
type RouteOption func(*route)

// WithAssign gives the channels of the route a value under key. It takes the place of what connect
// assigned under it.
func WithAssign[T any](key *Key[T], value T) RouteOption {
	return func(r *route) {
		r.assigns = append(r.assigns, func(ctx context.Context) context.Context { return key.Assign(ctx, value) })
	}
}

// WithPolicy sets what happens to broadcasts of the route's topics when a client is slow.
func WithPolicy(p Policy) RouteOption { return func(r *route) { r.policy = p } }

type route struct {
	pattern string
	make    func() Channel
	policy  Policy
	assigns []func(context.Context) context.Context
}

func (r *route) context(ctx context.Context) context.Context {
	for _, assign := range r.assigns {
		ctx = assign(ctx)
	}
	return ctx
}

// Channel serves the topics of a pattern with channels from newChannel. A pattern is a topic, or
// ends in *, which stands for the rest of the topic, be it empty. Of several patterns that match,
// an exact one wins, then the longest. It panics for a pattern with a * elsewhere, or one
// that is there already.
func (r *Router) Channel(pattern string, newChannel func() Channel, opts ...RouteOption) {
	rt := &route{pattern: pattern, make: newChannel}
	for _, o := range opts {
		o(rt)
	}
	star := strings.IndexByte(pattern, '*')
	switch {
	case newChannel == nil || pattern == "":
		panic("hub: a channel needs a pattern and a constructor")
	case star < 0:
		if r.exact[pattern] != nil {
			panic(fmt.Sprintf("hub: pattern %q is there already", pattern))
		}
		r.exact[pattern] = rt
		return
	case star != len(pattern)-1:
		panic(fmt.Sprintf("hub: in pattern %q the * is not at the end", pattern))
	}
	for _, other := range r.prefix {
		if other.pattern == pattern {
			panic(fmt.Sprintf("hub: pattern %q is there already", pattern))
		}
	}
	r.prefix = append(r.prefix, rt)
	sort.SliceStable(r.prefix, func(i, j int) bool { return len(r.prefix[i].pattern) > len(r.prefix[j].pattern) })
}

// match returns the route of a topic, or nil.
func (r *Router) match(topic string) *route {
	if rt := r.exact[topic]; rt != nil {
		return rt
	}
	for _, rt := range r.prefix {
		if strings.HasPrefix(topic, rt.pattern[:len(rt.pattern)-1]) {
			return rt
		}
	}
	return nil
}
