// Reads cases "object_id state late stamp now max_age silence", one a line, with object 7 in the masks (stamp < 0: no masks at all), and
// prints for each the object id that examples/target.hpp gives, 0 for none, and why.
#include <cstdint>
#include <iostream>

#include "target.hpp"

int main() {
  uint32_t wanted;
  int state, late;
  double stamp, now, max_age, silence;
  while (std::cin >> wanted >> state >> late >> stamp >> now >> max_age >> silence) {
    sam2s_ros::msg::TrackedMasks masks;
    masks.header.stamp.sec = static_cast<int32_t>(stamp);
    masks.header.stamp.nanosec = static_cast<uint32_t>((stamp - masks.header.stamp.sec) * 1e9);
    masks.late = late != 0;
    masks.objects.resize(1);
    masks.objects[0].object_id = 7;
    masks.objects[0].state = static_cast<uint8_t>(state);
    const auto found = target(stamp < 0 ? nullptr : &masks, wanted, now, max_age, silence);
    std::cout << (found.object ? found.object->object_id : 0) << ' ' << found.why << '\n';
  }
}
