// expect: temporary: give the statistics a name
#include <moe/stats/router_stats.hpp>

moe::RouterStats<float> make();

#ifdef MOE_MISTAKE
auto use() { return make().load()[0]; }
#else
auto use() {
    const moe::RouterStats<float> stats = make();
    return stats.load()[0];
}
#endif
