// expect: temporary: give the experts a name
#include <moe/experts/packed_experts.hpp>

using Packed = moe::PackedExperts<float, moe::Gated<moe::Silu>>;
Packed make();

#ifdef MOE_MISTAKE
auto use() { return make().data()[0]; }
#else
auto use() {
    const Packed packed = make();
    return packed.data()[0];
}
#endif
