#include "../packed_arms.hpp"

namespace bench {

template std::unique_ptr<LibraryLayer> make_layer_of<float>(const Shape&, Compute, const std::span<const std::int32_t>*,
                                                            const Threads&);
template std::unique_ptr<Arm> make_dense_of<float>(const Shape&, Compute, std::size_t, const Threads&);

}  // namespace bench
