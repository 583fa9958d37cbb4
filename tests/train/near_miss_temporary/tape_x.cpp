// expect: temporary: give it a name, this may be a view of it
#include <moe/train.hpp>

moe::Tape<float> make();

#ifdef MOE_MISTAKE
auto use() { return make().x().rows(); }
#else
auto use() {
    const moe::Tape<float> tape = make();
    return tape.x().rows();
}
#endif
