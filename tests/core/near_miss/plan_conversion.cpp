// expect: temporary: give the plan a name
#include <moe/routing/plan.hpp>

moe::RoutingPlan<float> make();

#ifdef MOE_MISTAKE
void use() { const moe::PlanView<float> view = make(); }
#else
void use() {
    const moe::RoutingPlan<float> plan = make();
    const moe::PlanView<float> view = plan;
}
#endif
