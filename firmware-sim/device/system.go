package device

import (
	"encoding/json"
	"time"
)

// pong answers a ping, which proves that the application runs and not only its network stack.
func (d *Device) pong(ping []byte) []byte {
	var said struct {
		N json.RawMessage `json:"n"`
	}
	_ = json.Unmarshal(ping, &said)
	d.mu.Lock()
	rssi := -40 - d.rand.IntN(45)
	heap := 120_000 + d.rand.IntN(60_000)
	d.mu.Unlock()
	b, _ := json.Marshal(map[string]any{"n": said.N, "free_heap": heap, "rssi": rssi})
	return b
}

// configured answers a config push: it is taken as it is.
func (d *Device) configured(config []byte) []byte {
	var said struct {
		Ver json.RawMessage `json:"ver"`
	}
	_ = json.Unmarshal(config, &said)
	info := map[string]any{"sdk": "firmware-sim"}
	if d.cfg.Firmware != "" {
		info["fw"] = d.cfg.Firmware
	}
	if len(said.Ver) > 0 {
		info["config_ver"] = said.Ver
	}
	b, _ := json.Marshal(info)
	return b
}

// dismissed heeds what the hub says before it ends a connection: a device that was replaced by its twin, or shut out,
// does not come running back.
func (d *Device) dismissed(payload []byte, away func(time.Duration)) {
	var said struct {
		Code       string `json:"code"`
		RetryAfter int64  `json:"retry_after_ms"`
	}
	_ = json.Unmarshal(payload, &said)
	d.failed("disconnect:" + said.Code)
	wait := time.Duration(said.RetryAfter) * time.Millisecond
	switch said.Code {
	case "replaced", "rate_limited":
		wait = max(wait, 5*time.Second)
	case "device_disabled", "token_revoked", "token_expired":
		wait = max(wait, 30*time.Second)
	}
	if wait > 0 {
		away(wait)
	}
}
