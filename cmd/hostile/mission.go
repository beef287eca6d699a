package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"
)

// An attack is made by a process of its own, which gets the processor when nobody else wants it: it
// stands for machines of others, and must not slow the good devices by itself.

// missionArgument makes this program, or its tests, such a process.
const missionArgument = "assault"

// mission is what the process is told on its standard input.
type mission struct {
	Attack     string
	HTTP, MQTT string // the hub's addresses
	Token      string
	For        time.Duration
}

// onMission does what the process was started for, if it was, and reports whether it was.
func onMission() bool {
	if len(os.Args) != 2 || os.Args[1] != missionArgument {
		return false
	}
	if err := assault(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
	return true
}

// assault reads a mission and writes what was seen, as JSON.
func assault(in io.Reader, out io.Writer) error {
	var m mission
	if err := json.NewDecoder(in).Decode(&m); err != nil {
		return err
	}
	all := attacks()
	i := slices.IndexFunc(all, func(a attack) bool { return a.name == m.Attack })
	if i < 0 {
		return fmt.Errorf("there is no attack %q", m.Attack)
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.For)
	defer cancel()
	var seen tally
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		all[i].run(ctx, &hub{http: m.HTTP, mqtt: m.MQTT}, m.Token, &seen)
	}()
	<-ctx.Done()
	select {
	case <-ended:
	case <-time.After(5 * time.Second): // some wait for an answer that does not come
	}
	return json.NewEncoder(out).Encode(seen.counts())
}

// attack has the attack made for as long as ctx lasts, at most d, and counts what was seen.
func (h *hub) attack(ctx context.Context, a attack, token string, d time.Duration, seen *tally) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := json.Marshal(mission{a.name, h.http, h.mqtt, token, d})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nice", "-n", "19", self, missionArgument)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	counts := map[string]int{}
	err = cmd.Run()
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &counts)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w: %s", a.name, err, errs.String()), ctx.Err())
	}
	for what, n := range counts {
		seen.add(what, n)
	}
	return nil
}
