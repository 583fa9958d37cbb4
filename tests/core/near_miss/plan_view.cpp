// expect: temporary: give the plan a name
#include <moe/routing/plan.hpp>

moe::RoutingPlan<float> make();

#ifdef MOE_MISTAKE
auto use() { return make().view().tokens_of(0).size(); }
#else
auto use() {
    const moe::RoutingPlan<float> plan = make();
    return plan.view().tokens_of(0).size();
}
#endif
