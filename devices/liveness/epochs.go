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
}

// next returns the next epoch. It waits for the disk only when the block ran
// out before refill reserved another.
func (e *epochs) next(ctx context.Context) (int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.low == nil {
		e.low = make(chan struct{}, 1)
	}
	if e.at == e.end {
		if e.limit == 0 {
			if err := e.reserve(ctx); err != nil {
				return 0, err
			}
		}
		e.at, e.end, e.more, e.limit = e.more, e.limit, 0, 0
	}
	n := e.at
	e.at++
	if e.limit == 0 && e.end-e.at < epochBlock/2 {
		select {
		case e.low <- struct{}{}:
		default:
		}
	}
	return n, nil
}

func (e *epochs) reserve(ctx context.Context) error {
	first, err := e.store.ReserveEpochs(ctx, epochBlock)
	if err != nil {
		return fmt.Errorf("reserve epochs: %w", err)
	}
	e.more, e.limit = first, first+epochBlock
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
		first, err := e.store.ReserveEpochs(ctx, epochBlock)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			log.Error("epochs not reserved", "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			continue // the next Open asks again
		}
		e.mu.Lock()
		if e.limit == 0 {
			e.more, e.limit = first, first+epochBlock
		} // else one Open was faster, and this block is skipped
		e.mu.Unlock()
	}
}
