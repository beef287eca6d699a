package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"devicehub/firmware-sim/device"
)

// register makes the devices on the hub. begun says that there may be some even if it fails.
func (s *Sim) register(ctx context.Context) (begun bool, err error) {
	if err := s.api.Login(ctx); err != nil {
		return false, err
	}
	if err := s.awaitBridges(ctx); err != nil {
		return false, err
	}
	known, err := s.known(ctx)
	if err != nil {
		return false, err
	}
	const chunk = 200
	for from := 0; from < len(s.units); from += chunk {
		units := s.units[from:min(from+chunk, len(s.units))]
		tokens, err := s.tokens(ctx, units, known)
		if err != nil {
			return from > 0 || !unheard(err), fmt.Errorf("register devices: %w", err)
		}
		if from == 0 {
			s.setPhase("registering")
		}
		for _, u := range units {
			if err := s.build(ctx, u, tokens[u.id]); err != nil {
				return true, err
			}
		}
	}
	return true, s.invite(ctx, known)
}

// unheard reports that a call has changed nothing: it did not reach the hub, or was refused.
func unheard(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	_, refused := errors.AsType[*APIError](err)
	return refused
}

func (s *Sim) unregister(ctx context.Context) {
	s.setPhase("removing devices")
	if !s.reachable(ctx) {
		s.cfg.Log.Warn("the hub does not answer: its devices stay registered", "devices", len(s.units))
		return
	}
	var wg sync.WaitGroup
	ids := make(chan string)
	var failed sync.Once
	for range 8 {
		wg.Go(func() {
			for id := range ids {
				if err := s.api.Remove(ctx, id); err != nil {
					failed.Do(func() { s.cfg.Log.Warn("device not removed", "device", id, "err", err) })
				}
			}
		})
	}
	for _, u := range s.units {
		ids <- u.id
	}
	close(ids)
	wg.Wait()
}

// build makes the simulated device of a unit.
func (s *Sim) build(ctx context.Context, u *unit, token string) (err error) {
	cfg := u.config
	cfg.Token = token
	cfg.Hub, cfg.MQTT = s.cfg.Hub, s.cfg.MQTT
	if via := u.group.Via; via != nil {
		cfg.MQTT, cfg.Bridged = s.cfg.Bridge, true
		if via.Token {
			if cfg.Carry, err = s.api.IssueBridge(ctx, u.id, via.Bridge); err != nil {
				return err
			}
		}
	}
	cfg.HTTP, cfg.WriteBuffers = s.pollFor(u.n), &s.buffers
	cfg.Log = s.cfg.Log
	cfg.Dial = s.dialFor(u.n)
	cfg.Hooks = u.hooks(s)
	dev, err := device.New(cfg)
	u.dev = dev
	return err
}
