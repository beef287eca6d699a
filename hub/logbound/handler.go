// Package logbound bounds what clients can have written into the log.
//
// A [Handler] stands before the handler that writes. It cuts long values, for any of them may be
// what a client sent, and it lets lines that repeat through a few times a minute: what comes beyond
// is counted, and told when the minute is over. It does so for every line of the levels Info and
// above, whoever logs it, so that no caller can forget to.
package logbound

import (
	"context"
	"log/slog"
	"time"
)

// Handler passes on to another what is within bounds. Make it with New. Safe for concurrent use.
type Handler struct {
	next slog.Handler
	book *book
	with attributes // of the logger
}

// New returns a Handler before next, or next where it is one. What it holds back in a minute is
// told when the next line comes or, while Run runs, when the minute is over.
func New(next slog.Handler) *Handler {
	if h, already := next.(*Handler); already {
		return h
	}
	return &Handler{next: next, book: newBook(next)}
}

// Run tells every minute of what was held back, until ctx ends, and then of the rest.
func (h *Handler) Run(ctx context.Context) {
	tick := time.NewTicker(window)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.book.tell(ctx, true)
			return
		case <-tick.C:
			h.book.tell(ctx, true)
		}
	}
}

// Enabled asks the handler that writes.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle passes a line on, with its values cut, or counts it.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo { // who turns on debug wants to see each
		h.book.tell(ctx, false)
		of := h.with
		r.Attrs(of.see)
		if !h.book.admit(r.Level, r.Message, of) {
			return nil
		}
	}
	return h.next.Handle(ctx, short(r))
}

// WithAttrs returns a Handler of the same bounds.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := h.with
	cut := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		with.see(a)
		cut[i], _ = shortAttr(a)
	}
	return &Handler{next: h.next.WithAttrs(cut), book: h.book, with: with}
}

// WithGroup returns a Handler of the same bounds.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{next: h.next.WithGroup(name), book: h.book, with: h.with}
}
