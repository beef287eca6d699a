package main

import "devicehub/devices/quota"

// A device sends more than events: heartbeats, answers, joins. Ten of its sockets may be open,
// most of them on their way out: a newer connection replaces an older one.
const (
	deviceFrames  = 4 // times its rate of events
	deviceSockets = 10
)

// quota are the limits of what each principal may ask for.
func (l LimitsConfig) quota() quota.Limits {
	rate := func(perSecond, burst int) quota.Rate {
		return quota.Rate{PerSecond: float64(perSecond), Burst: float64(burst)}
	}
	each := func(r int) quota.Rate { return rate(r, r) } // a second's worth at once
	connects := rate(l.ConnectsPerS, l.ConnectBurst)
	var out quota.Limits
	d, o := &out.Device, &out.Other
	d.Rates[quota.Events] = rate(l.DeviceEventsPerS, l.DeviceBurst)
	d.Rates[quota.Reads] = rate(deviceFrames*l.DeviceEventsPerS, deviceFrames*l.DeviceBurst)
	d.Rates[quota.Calls] = d.Rates[quota.Reads]
	d.Rates[quota.Connects] = connects
	d.Places[quota.Sockets], d.Places[quota.LongPolls], d.Places[quota.AtOnce] = deviceSockets, l.DeviceLongpolls, l.CallsAtOnce
	o.Rates[quota.Events] = rate(l.EventsPerS, l.EventBurst)
	o.Rates[quota.Reads] = rate(l.ReadsPerS, l.ReadBurst)
	o.Rates[quota.Calls] = rate(l.CallsPerS, l.CallBurst)
	o.Rates[quota.Connects] = connects
	o.Rates[quota.Messages] = rate(l.MQTTMessagesPerS, l.MQTTMessageBurst)
	o.Rates[quota.Kept] = rate(int(l.MQTTKeptBytesPerMin)/60, int(l.MQTTKeptBytesPerMin)/4)
	o.Places[quota.Sockets], o.Places[quota.LongPolls], o.Places[quota.AtOnce] = l.Sockets, l.Longpolls, l.CallsAtOnce
	out.Checks, out.Failures = each(l.ConnectsPerSPerAddress), each(l.FailedConnectsPerSPerAddress)
	out.Arrivals, out.ArrivalsPerAddress = l.Unverified, l.UnverifiedPerAddress
	out.DeviceMinute, out.DeviceDay = int64(l.DeviceBytesPerMin), int64(l.DeviceBytesPerDay)
	return out
}
