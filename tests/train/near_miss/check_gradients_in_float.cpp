// expect: check_gradients: the layer must compute in double
#include <moe/train.hpp>

template <class W>
using Layer = moe::MoELayer<moe::Router<W, moe::TokenChoice<>>, moe::ExpertBank<W, moe::Gated<moe::Silu>>>;

#ifdef MOE_MISTAKE
auto use(const Layer<float>& layer, moe::MatrixView<const double> x) { return moe::check_gradients(layer, x); }
#else
auto use(const Layer<double>& layer, moe::MatrixView<const double> x) { return moe::check_gradients(layer, x); }
#endif
