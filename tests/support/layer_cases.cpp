#include "support/layer_cases.hpp"

namespace moe_test {

template class LayerCase<float>;
template class LayerCase<double>;
template class LayerCase<moe::bfloat16>;
template class LayerCase<moe::float16>;

LayerShape random_layer_shape(Draw& draw, std::size_t max_size, std::size_t max_experts) {
    LayerShape shape;
    shape.n_experts = draw.size(1, max_experts);
    shape.d_model = draw.size(1, max_size);
    shape.d_ff = draw.size(1, max_size);
    shape.biases = draw.coin();
    shape.form.kind = static_cast<moe::FormKind>(draw.size(0, static_cast<std::size_t>(moe::FormKind::clamped_after)));
    shape.form.limit = 1.0;
    if (draw.size(0, 2) == 0) {
        for (std::size_t i = draw.size(1, 2); i > 0; --i) {
            shape.shared_widths.push_back(draw.size(1, max_size));
        }
        shape.shared_mode = static_cast<moe::SharedMode>(draw.size(0, 2));
    }
    if (draw.size(0, 3) == 0) {
        shape.n_zero = draw.size(0, 2);
        shape.n_identity = draw.size(0, 2);
        shape.n_constant = draw.size(0, 2);
        shape.mixes = draw.coin();
    }
    shape.output_bias = draw.size(0, 3) == 0;
    shape.pass_unrouted = draw.size(0, 3) == 0;
    shape.weight_at = draw.size(0, 3) == 0 ? moe::WeightAt::input : moe::WeightAt::output;
    shape.routed_scale = draw.size(0, 3) == 0 ? 2.5 : 1.0;
    return shape;
}

}  // namespace moe_test
