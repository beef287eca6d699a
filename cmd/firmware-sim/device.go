package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"devicehub/firmware-sim/device"
)

type deviceFlags struct {
	id, token, hub, mqtt, transport, metric string
	modes                                   []string
}

// modes are the ways in which a light can shine (devices/README.md#lights).
var modes = []string{"onoff", "brightness", "color_temp", "hs", "rgb", "rgbw", "rgbww", "xy", "white"}

const sensorHelp = `Type a number to send it as the metric, or METRIC VALUE (temperature 21.4, motion true).`
const lightHelp = `Type p to press the switch, or a brightness from 0 (off) to 255.`
const commonHelp = `Also: drop [30s] cuts the connection, pull [30s] pulls the cable (half open), up ends that, restart is a power
cycle, raw EVENT JSON sends anything, state shows what the device believes, q quits.`

func newDevice(kind string) *cobra.Command {
	var f deviceFlags
	c := &cobra.Command{
		Use:   kind,
		Short: "Play one " + kind + " by hand",
		Long:  "Plays one " + kind + " and shows each frame.\n" + map[string]string{"sensor": sensorHelp, "light": lightHelp}[kind] + "\n" + commonHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd, kind) },
	}
	fs := c.Flags()
	fs.StringVar(&f.id, "device", "", "the device's id")
	fs.StringVar(&f.token, "token", "", "its token (or FIRMWARE_SIM_TOKEN)")
	fs.StringVar(&f.hub, "hub", "http://127.0.0.1:4000", "the hub's URL")
	fs.StringVar(&f.mqtt, "mqtt", "", "the MQTT listener's URL (default mqtt://<hub's host>:1883)")
	fs.StringVar(&f.transport, "transport", "websocket", "websocket, longpoll, mqtt (3.1.1) or mqtt5")
	if kind == "sensor" {
		fs.StringVar(&f.metric, "metric", "temperature", "the metric of a bare number")
	} else {
		fs.StringSliceVar(&f.modes, "modes", []string{"brightness"}, "the light's modes, as it was registered")
	}
	return c
}

func (f *deviceFlags) run(cmd *cobra.Command, kind string) error {
	if f.token == "" {
		f.token = os.Getenv("FIRMWARE_SIM_TOKEN")
	}
	if f.id == "" || f.token == "" {
		return usageError{errors.New("--device ID and --token TOKEN are required; devicehub device add ID --kind " + kind + " prints a token")}
	}
	hub, err := parseURL("--hub", f.hub, "http", "https")
	if err != nil {
		return usageError{err}
	}
	mqtt := mqttURL(hub)
	if f.mqtt != "" {
		if mqtt, err = parseURL("--mqtt", f.mqtt, "mqtt", "mqtts", "tcp", "ssl"); err != nil {
			return usageError{err}
		}
	}
	out := &printer{w: cmd.OutOrStdout()}
	cfg := device.Config{ID: f.id, Token: f.token, Transport: device.Transport(f.transport), Hub: hub, MQTT: mqtt, Firmware: "sim-1.0",
		Sensor: kind == "sensor", Hooks: out.hooks(f.token)}
	for _, mode := range f.modes {
		if !slices.Contains(modes, mode) {
			return usageError{fmt.Errorf("--modes: %q is none of %s", mode, strings.Join(modes, ", "))}
		}
	}
	if kind == "light" {
		cfg.Light = &device.LightConfig{Modes: f.modes, Transition: true}
	}
	dev, err := device.New(cfg)
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := dev.Run(ctx); err != nil {
			out.say("ended: %v", err)
		}
		cancel()
	})
	out.say("%s %s over %s; type help for what you can do", kind, f.id, f.transport)
	lines := make(chan string)
	go readLines(cmd.InOrStdin(), lines) // ends with the program: a read of a terminal cannot be cancelled
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-lines:
			if !ok || line == "q" || line == "quit" {
				waitAcked(ctx, dev, 5*time.Second)
				if n := dev.Backlog(); n > 0 {
					return fmt.Errorf("the hub has not acknowledged %s", plural(n, "reading"))
				}
				return nil
			}
			if err := f.do(dev, out, kind, line); err != nil {
				out.say("%v", err)
			}
		}
	}
}

func readLines(r io.Reader, lines chan<- string) {
	in := bufio.NewScanner(r)
	for in.Scan() {
		lines <- strings.TrimSpace(in.Text())
	}
	close(lines)
}

func waitAcked(ctx context.Context, dev *device.Device, limit time.Duration) {
	for end := time.Now().Add(limit); dev.Backlog() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(20 * time.Millisecond)
	}
}

// do carries out one line that was typed.
func (f *deviceFlags) do(dev *device.Device, out *printer, kind, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	stay := 30 * time.Second
	if rest != "" && (word == "drop" || word == "pull") {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 30s", rest)
		}
		stay = d
	}
	switch word {
	case "":
	case "help", "?":
		out.say("%s\n%s", map[string]string{"sensor": sensorHelp, "light": lightHelp}[kind], commonHelp)
	case "drop":
		dev.Drop(stay)
	case "pull":
		dev.Abandon(stay)
	case "up":
		dev.Reconnect()
	case "restart":
		dev.Restart()
	case "state":
		s, ok := dev.State()
		b, _ := json.Marshal(s)
		if ok {
			out.say("light %s", b)
		}
		out.say("boot %s, %s not acknowledged", dev.Boot(), plural(dev.Backlog(), "reading"))
	case "raw":
		event, payload, _ := strings.Cut(rest, " ")
		if event == "" || !json.Valid([]byte(payload)) {
			return errors.New(`raw takes an event and its payload: raw reading {"m":"temperature","v":21.4}`)
		}
		dev.Raw(event, []byte(payload))
	default:
		return f.act(dev, kind, word, rest)
	}
	return nil
}

// act is a value typed at a sensor, or a hand at a light.
func (f *deviceFlags) act(dev *device.Device, kind, word, rest string) error {
	if kind == "light" {
		if word == "p" || word == "press" {
			dev.Press()
			return nil
		}
		b, err := strconv.Atoi(word)
		if err != nil || b < 0 || b > 255 {
			return fmt.Errorf("%q is neither p nor a brightness from 0 to 255; type help", word)
		}
		dev.Dim(b)
		return nil
	}
	metric, text := f.metric, word
	if rest != "" {
		metric, text = word, rest
	}
	var v any = text
	if n, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(n) && !math.IsInf(n, 0) {
		v = n
	} else if err == nil {
		return fmt.Errorf("%s does not exist in JSON; try raw", text)
	} else if text == "true" || text == "false" {
		v = text == "true"
	} else if rest == "" {
		return fmt.Errorf("%q is no number; type help", text)
	}
	if _, ok := dev.Measure(metric, v, "", time.Now()); !ok {
		return errors.New("the device's store is full")
	}
	return nil
}

// printer shows what happens, a line each.
type printer struct {
	mu sync.Mutex
	w  io.Writer

	reason string // why there is no connection
}

func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

func (p *printer) hooks(token string) device.Hooks {
	return device.Hooks{
		Up: func(u device.Up) {
			p.mu.Lock()
			p.reason = ""
			p.mu.Unlock()
			p.say("connected (attempt %d; %v to connect, %v to join)", u.Attempt, u.Connect.Round(time.Millisecond), u.Join.Round(time.Millisecond))
		},
		Down:   func(err error) { p.say("disconnected: %v", err) },
		Unable: p.unable,
		Acked: func(a device.Ack) {
			if last := a.Readings[len(a.Readings)-1]; len(a.Readings) == 1 {
				p.say("acknowledged: %s = %v", last.Metric, last.Value)
			} else {
				p.say("acknowledged: %d readings, the last %s = %v", len(a.Readings), last.Metric, last.Value)
			}
		},
		Refused: func(r device.Reading, code string) { p.say("refused: %s = %v: %s", r.Metric, r.Value, code) },
		Error:   func(code string) { p.say("error: %s", code) },
		Ran:     func(c device.Command) { p.say("executed: %s %s (%s, by %s)", c.Op, c.Params, c.ID, c.By) },
		Frame: func(out bool, topic string, data []byte) {
			arrow := "<-"
			if out {
				arrow = "->"
			}
			if topic != "" {
				topic += " "
			}
			text := newToken.ReplaceAllString(strings.ReplaceAll(string(data), token, "***"), `"token":"***"`)
			p.say("%s %s%s", arrow, topic, text)
		},
	}
}

// newToken is one that the hub gives, which is as secret as the first.
var newToken = regexp.MustCompile(`"token":"[^"]*"`)

// unable says once why there is no connection, however often it is tried again.
func (p *printer) unable(err error) {
	p.mu.Lock()
	again := p.reason == err.Error()
	p.reason = err.Error()
	p.mu.Unlock()
	if !again && !errors.Is(err, context.Canceled) {
		p.say("no connection: %v; trying again", err)
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
