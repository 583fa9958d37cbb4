#pragma once

/// The door of stats/: what a layer's routing does, counted, timed, recorded and priced. Sees layers through observers.

#include "stats/load.hpp"
#include "stats/router_stats.hpp"
