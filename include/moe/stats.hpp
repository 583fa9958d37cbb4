#pragma once

/// The door of stats/: what a layer's routing does, counted, timed, recorded and priced. Sees layers through observers.

#include "stats/co_activation.hpp"
#include "stats/cost.hpp"
#include "stats/json.hpp"
#include "stats/latency_histogram.hpp"
#include "stats/load.hpp"
#include "stats/observers.hpp"
#include "stats/phase_timer.hpp"
#include "stats/router_stats.hpp"
#include "stats/specialisation.hpp"
#include "stats/trace.hpp"
#include "stats/trace_format.hpp"
