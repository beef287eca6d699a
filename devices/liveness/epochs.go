package liveness

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// epochBlock is how many epochs are reserved with one write.
const epochBlock = 1 << 16

// epochs hands out numbers that rise strictly, across restarts too. A block is
// reserved on disk ahead of its use; what is left of it at a stop is skipped.
type epochs struct {
	store Store

	mu          sync.Mutex
	at, end     int64 // next to hand out; end of the block
	more, limit int64 // the block after it; limit 0: not yet reserved
	low         chan struct{}

	reserving chan struct{} // held across the disk write
}

func (e *epochs) init(store Store) {
	e.store, e.low, e.reserving = store, make(chan struct{}, 1), make(chan struct{}, 1)
}

// take returns the next epoch, and false where the block ran out before refill
// reserved another. It does not wait for the disk, so it may be called under any
// lock.
func (e *epochs) take() (n int64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at == e.end {
		e.at, e.end, e.more, e.limit = e.more, e.limit, 0, 0
	}
	if e.limit == 0 && e.end-e.at < epochBlock/2 {
		select {
		case e.low <- struct{}{}:
		default:
		}
	}
	if e.at == e.end {
		return 0, false
	}
	n = e.at
	e.at++
	return n, true
}

// reserve reserves another block, unless there is one, or, without spare, anything
// is left of the present one.
func (e *epochs) reserve(ctx context.Context, spare bool) error {
	select {
	case e.reserving <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-e.reserving }()
	e.mu.Lock()
	there := e.limit != 0 || !spare && e.at != e.end
	e.mu.Unlock()
	if there {
		return nil
	}
	first, err := e.store.ReserveEpochs(ctx, epochBlock)
	if err != nil {
		return fmt.Errorf("reserve epochs: %w", err)
	}
	e.mu.Lock()
	e.more, e.limit = first, first+epochBlock
	e.mu.Unlock()
	return nil
}

// refill reserves the next block while half of the present one is left.
func (e *epochs) refill(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.low:
		}
		if err := e.reserve(ctx, true); err != nil {
			if ctx.Err() != nil {
				return
			}
			log.Error("epochs not reserved", "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second): // who takes the next asks again
			}
		}
	}
}
